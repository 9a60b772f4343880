// What a program does with the official JavaScript client. Arguments: a kubeconfig file and a namespace.
// Every step asserts what it finds and says its name; the first that fails ends the program.
import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const [file, namespace] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromFile(file);
const core = config.makeApiClient(k8s.CoreV1Api);
const body = (name, data) => ({ metadata: { name, labels: { app: 'a' } }, data });
const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
const step = (name) => console.log(name);

async function refused(promise, code) {
  await assert.rejects(promise, (error) => error.code === code);
}

let made = await core.createNamespacedConfigMap({ namespace, body: body('one', { a: '1' }) });
assert.ok(made.metadata.uid);
step('created');

const listed = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=a' });
assert.deepEqual(listed.items.map((item) => item.metadata.name), ['one']);
step('listed');

const patched = await core.patchNamespacedConfigMap({ name: 'one', namespace, body: { data: { b: '2' } } }, merge);
assert.deepEqual(patched.data, { a: '1', b: '2' });
step('patched');

const replaced = await core.replaceNamespacedConfigMap({
  name: 'one', namespace, body: { ...patched, data: { c: '3' } },
});
assert.deepEqual(replaced.data, { c: '3' });
step('replaced');

await refused(core.replaceNamespacedConfigMap({ name: 'one', namespace, body: made }), 409);
step('conflict');

// A watch from the list sees what follows it.
const seen = [];
await new Promise((resolve, reject) => {
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const query = { labelSelector: 'app=a', resourceVersion: listed.metadata.resourceVersion };
  let request;
  const each = (type, object) => {
    seen.push([type, object.metadata.name]);
    if (seen.length === 2) {
      request.abort();
      resolve();
    }
  };
  new k8s.Watch(config).watch(path, query, each, (error) => error?.name !== 'AbortError' && reject(error))
    .then((begun) => { request = begun; }, reject);
});
assert.deepEqual(seen, [['MODIFIED', 'one'], ['MODIFIED', 'one']]);
step('watched');

// An informer tells of what is there and of what comes.
const informer = k8s.makeInformer(
  config,
  `/api/v1/namespaces/${namespace}/configmaps`,
  () => core.listNamespacedConfigMap({ namespace, labelSelector: 'app=a' }),
  'app=a',
);
const added = new Set();
const both = new Promise((resolve, reject) => {
  informer.on('add', (object) => {
    added.add(object.metadata.name);
    if (added.size === 2) resolve();
  });
  informer.on('error', reject);
});
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: body('two') });
await both;
assert.deepEqual(informer.list().map((item) => item.metadata.name).sort(), ['one', 'two']);
await informer.stop();
step('informed');

// Objects of any kind, by what they say they are.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const deployment = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: 'web' } },
    template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'main', image: 'any' }] } },
  },
};
await objects.create(deployment);
assert.equal((await objects.read(deployment)).spec.replicas, 1);
await objects.delete(deployment);
step('generic');

const log = await core.readNamespacedPodLog({ name: 'talker', namespace });
assert.equal(log, 'hello\nworld\n');
step('logs');

await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'app=a' });
await refused(core.readNamespacedConfigMap({ name: 'one', namespace }), 404);
step('deleted');

await refused(core.createNamespacedConfigMap({ namespace, body: body('Not_A_Name') }), 422);
step('refused');
process.exit(0);
