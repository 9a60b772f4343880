"""The rules for the volumes of a pod.

Specified in https://kubernetes.io/docs/concepts/storage/volumes/.
"""

from __future__ import annotations

from collections.abc import Callable

from pinnace.apis.checks import amount, every, needed, optional_one_of
from pinnace.apis.core.container import local_path, no_backsteps, validate_field_ref, validate_resource_ref
from pinnace.apis.core.credential_projections import (
    CERTIFICATE_PATHS,
    validate_pod_certificate,
    validate_trust_bundle,
)
from pinnace.apis.core.persistent_volume_claim import validate_claim_spec
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj

MODE_RANGE = "must be a number between 0 and 0777 (octal), both inclusive"
HOST_PATH_TYPES = (
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def validate_volumes(volumes: list[Obj], path: str) -> tuple[list[Cause], dict[str, str]]:
    """The errors, and every good volume's name with its source."""
    errors: list[Cause] = []
    found: dict[str, str] = {}
    for index, volume in enumerate(volumes):
        name = volume.get("name") or ""
        source, bad = _validate_source(volume, path, index)
        if not name:
            bad.append(required(f"{path}[{index}].name"))
        else:
            bad += every(f"{path}[{index}].name", name, names.is_dns_label(name))
            if name in found:
                bad.append(duplicate(f"{path}[{index}].name", name))
        if bad:
            errors += bad
        if name:
            found.setdefault(name, source)
    return errors, found


def _validate_source(volume: Obj, path: str, index: int) -> tuple[str, list[Cause]]:
    present = [kind for kind, settings in volume.items() if kind != "name" and settings is not None]
    if not present:
        return "", [required(f"{path}[{index}]", "must specify a volume type")]
    errors = [
        field_forbidden(f"{path}[{index}].{kind}", "may not specify more than 1 volume type") for kind in present[1:]
    ]
    kind = present[0]
    rule = _SOURCES.get(kind)
    if rule:
        errors += rule(volume[kind], f"{path}[{index}].{kind}")
    return kind, errors


def _mode(settings: Obj, key: str, path: str) -> list[Cause]:
    mode = settings.get(key)
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid_value(f"{path}.{key}", mode, MODE_RANGE)]


def _items(settings: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, item in enumerate(settings.get("items") or ()):
        at = f"{path}.items[{index}]"
        errors += needed(f"{at}.key", item.get("key"))
        if item.get("path"):
            errors += file_path(f"{at}.path", item["path"])
        else:
            errors.append(required(f"{at}.path"))
        errors += _mode(item, "mode", at)
    return errors


def file_path(field: str, path: str) -> list[Cause]:
    """The name of a file in a volume; `..data` and the like are the volume's own."""
    errors = local_path(field, path)
    if not errors and path.startswith(".."):
        errors.append(invalid_value(field, path, "must not start with '..'"))
    return errors


def _secret(settings: Obj, path: str) -> list[Cause]:
    return needed(f"{path}.secretName", settings.get("secretName")) + _with_items(settings, path)


def _config_map(settings: Obj, path: str) -> list[Cause]:
    return needed(f"{path}.name", settings.get("name")) + _with_items(settings, path)


def _with_items(settings: Obj, path: str) -> list[Cause]:
    if not settings.get("items") and settings.get("defaultMode") == 420:
        return []
    return _mode(settings, "defaultMode", path) + _items(settings, path)


def validate_host_path(settings: Obj, path: str) -> list[Cause]:
    where = settings.get("path")
    if not where:
        return [required(f"{path}.path")]
    errors = no_backsteps(f"{path}.path", where)
    if settings.get("type"):
        errors += optional_one_of(f"{path}.type", settings["type"], HOST_PATH_TYPES)
    return errors


def _empty_dir(settings: Obj, path: str) -> list[Cause]:
    size = settings.get("sizeLimit")
    quantity = amount(size) if size is not None else None
    if quantity is not None and quantity.amount < 0:
        return [field_forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _claim(settings: Obj, path: str) -> list[Cause]:
    return needed(f"{path}.claimName", settings.get("claimName"))


def validate_nfs(settings: Obj, path: str) -> list[Cause]:
    errors = needed(f"{path}.server", settings.get("server"))
    where = settings.get("path")
    if not where:
        errors.append(required(f"{path}.path"))
    elif not where.startswith("/"):
        errors.append(invalid_value(f"{path}.path", where, "must be an absolute path"))
    return errors


def _downward(settings: Obj, path: str) -> list[Cause]:
    errors = _mode(settings, "defaultMode", path)
    for index, item in enumerate(settings.get("items") or ()):
        errors += _downward_item(item, f"{path}.items[{index}]")
    return errors


def _downward_item(item: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    else:
        errors += file_path(f"{path}.path", item["path"])
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        errors += validate_field_ref(field, _FILE_FIELDS, f"{path}.fieldRef")
        if resource is not None:
            why = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid_value(path, "resource", why))
    elif resource is not None:
        errors += validate_resource_ref(resource, f"{path}.resourceFieldRef", volume=True)
    else:
        errors.append(required(f"{path}.fieldRef", "one of fieldRef and resourceFieldRef is required"))
    return errors + _mode(item, "mode", path)


_PROJECTIONS = ("secret", "downwardAPI", "configMap", "serviceAccountToken", "clusterTrustBundle", "podCertificate")


def _projected(settings: Obj, path: str) -> list[Cause]:
    errors = _mode(settings, "defaultMode", path)
    seen: set[str] = set()
    for index, source in enumerate(settings.get("sources") or ()):
        at = f"{path}.sources[{index}]"
        present = [kind for kind in _PROJECTIONS if source.get(kind) is not None]
        if not present:
            errors.append(required(at, f"must specify one of: {', '.join(_PROJECTIONS)}"))
        elif len(present) > 1:
            errors.append(field_forbidden(f"{at}.{present[1]}", "may not specify more than 1 volume type per source"))
        for kind in present:
            errors += _projection(kind, source[kind], f"{at}.{kind}")
            errors += _conflicts(source[kind], seen, at)
    return errors


def _projection(kind: str, settings: Obj, path: str) -> list[Cause]:
    if kind in ("secret", "configMap"):
        return needed(f"{path}.name", settings.get("name")) + _items(settings, path)
    if kind == "downwardAPI":
        return _downward(settings, path)
    if kind == "serviceAccountToken":
        return _token(settings, path)
    if kind == "clusterTrustBundle":
        return validate_trust_bundle(settings, path) + _place(settings, path)
    return validate_pod_certificate(settings, path) + [
        error for key in CERTIFICATE_PATHS if settings.get(key) for error in file_path(f"{path}.{key}", settings[key])
    ]


def _token(settings: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    seconds = settings.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        errors.append(
            invalid_value(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    if seconds is not None and seconds > 1 << 32:
        why = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid_value(f"{path}.expirationSeconds", seconds, why))
    return errors + _place(settings, path)


def _place(settings: Obj, path: str) -> list[Cause]:
    """Of the file that a source makes."""
    if not settings.get("path"):
        return [required(f"{path}.path")]
    return file_path(f"{path}.path", settings["path"])


def _conflicts(settings: Obj, seen: set[str], path: str) -> list[Cause]:
    """Two sources may not write the same file."""
    errors: list[Cause] = []
    files = [item.get("path") for item in settings.get("items") or ()]
    files += [settings[key] for key in ("path", *CERTIFICATE_PATHS) if settings.get(key)]
    for file in files:
        if file in seen:
            why = f"conflicting duplicate paths: {file}"
            errors.append(invalid_value(path, settings.get("name") or file, why))
        seen.add(file)
    return errors


def validate_csi(settings: Obj, path: str) -> list[Cause]:
    driver = settings.get("driver")
    if not driver:
        return [required(f"{path}.driver")]
    if len(driver) > 63:
        return [Cause("FieldValueTooLong", "Too long: may not be more than 63 bytes", f"{path}.driver")]
    return every(f"{path}.driver", driver, names.is_dns_subdomain(driver.lower()))


def _ephemeral(settings: Obj, path: str) -> list[Cause]:
    template = settings.get("volumeClaimTemplate")
    if not template:
        return [required(f"{path}.volumeClaimTemplate")]
    return validate_claim_spec(template.get("spec") or {}, f"{path}.volumeClaimTemplate.spec")


def _image(settings: Obj, path: str) -> list[Cause]:
    reference = settings.get("reference") or ""
    errors = needed(f"{path}.reference", reference)
    if reference != reference.strip():
        why = "must not have leading or trailing whitespace"
        errors.append(invalid_value(f"{path}.reference", reference, why))
    return errors + optional_one_of(
        f"{path}.pullPolicy", settings.get("pullPolicy"), ("Always", "IfNotPresent", "Never")
    )


def _needs(*keys: str) -> Callable[[Obj, str], list[Cause]]:
    """A rule for a source that must say these things, and of which no more is asked."""

    def rule(settings: Obj, path: str) -> list[Cause]:
        return [required(f"{path}.{key}") for key in keys if not settings.get(key)]

    return rule


def _iscsi(settings: Obj, path: str) -> list[Cause]:
    errors = _needs("targetPortal", "iqn")(settings, path)
    lun = settings.get("lun") or 0
    if not 0 <= lun <= 255:
        errors.append(invalid_value(f"{path}.lun", lun, names.in_range(0, 255)))
    return errors


def _git(settings: Obj, path: str) -> list[Cause]:
    directory = settings.get("directory") or ""
    return _needs("repository")(settings, path) + local_path(f"{path}.directory", directory)


def _azure_disk(settings: Obj, path: str) -> list[Cause]:
    errors = _needs("diskName", "diskURI")(settings, path)
    errors += optional_one_of(f"{path}.cachingMode", settings.get("cachingMode"), ("None", "ReadOnly", "ReadWrite"))
    return errors + optional_one_of(f"{path}.kind", settings.get("kind"), ("Dedicated", "Managed", "Shared"))


_SOURCES: dict[str, Callable[[Obj, str], list[Cause]]] = {
    "secret": _secret,
    "configMap": _config_map,
    "hostPath": validate_host_path,
    "emptyDir": _empty_dir,
    "persistentVolumeClaim": _claim,
    "nfs": validate_nfs,
    "downwardAPI": _downward,
    "projected": _projected,
    "csi": validate_csi,
    "ephemeral": _ephemeral,
    "image": _image,
    "awsElasticBlockStore": _needs("volumeID"),
    "azureDisk": _azure_disk,
    "azureFile": _needs("secretName", "shareName"),
    "cephfs": _needs("monitors"),
    "cinder": _needs("volumeID"),
    "flexVolume": _needs("driver"),
    "gcePersistentDisk": _needs("pdName"),
    "gitRepo": _git,
    "glusterfs": _needs("endpoints", "path"),
    "iscsi": _iscsi,
    "portworxVolume": _needs("volumeID"),
    "quobyte": _needs("registry", "volume"),
    "rbd": _needs("monitors", "image"),
    "scaleIO": _needs("gateway", "system", "volumeName"),
    "vsphereVolume": _needs("volumePath"),
}
