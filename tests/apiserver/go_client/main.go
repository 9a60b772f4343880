// Drives an API server with Go's own HTTP/2 client, as kubectl, Helm and controllers do: everything in parallel over one
// connection. Arguments: URL, CA file, token. Prints "ok" and how many connections it took, or what went wrong.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const configMaps = "/api/v1/namespaces/default/configmaps"

var (
	base, token string
	dials       int64
	client      *http.Client
)

func check(err error, what string) {
	if err != nil {
		fmt.Println(what+":", err)
		os.Exit(1)
	}
}

func request(ctx context.Context, method, path, body string) *http.Response {
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	check(err, "request")
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	check(err, method+" "+path)
	if response.ProtoMajor != 2 {
		check(fmt.Errorf("answered in %s", response.Proto), path)
	}
	return response
}

func expect(status int, method, path, body string) []byte {
	response := request(context.Background(), method, path, body)
	content, err := io.ReadAll(response.Body)
	check(err, "body of "+path)
	response.Body.Close()
	if response.StatusCode != status {
		check(fmt.Errorf("status %d: %.300s", response.StatusCode, content), method+" "+path)
	}
	return content
}

func configMap(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"v":%q}}`, name, value)
}

func inParallel(count int, work func(number int)) {
	var group sync.WaitGroup
	for number := 0; number < count; number++ {
		group.Add(1)
		go func(number int) { defer group.Done(); work(number) }(number)
	}
	group.Wait()
}

// watch reads events until it has seen a ConfigMap of each name.
func watch(revision string, names map[string]bool, ready *sync.WaitGroup) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // which resets the stream
	response := request(ctx, "GET", configMaps+"?watch=true&resourceVersion="+revision, "")
	ready.Done()
	lines := bufio.NewReader(response.Body)
	for len(names) > 0 {
		line, err := lines.ReadBytes('\n')
		check(err, "watch")
		var event struct {
			Object struct{ Metadata struct{ Name string } }
		}
		check(json.Unmarshal(line, &event), "event")
		delete(names, event.Object.Metadata.Name)
	}
}

func main() {
	base, token = os.Args[1], os.Args[3]
	authority, err := os.ReadFile(os.Args[2])
	check(err, "CA")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	dialer := net.Dialer{}
	client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			atomic.AddInt64(&dials, 1)
			return dialer.DialContext(ctx, network, address)
		},
	}}
	expect(200, "GET", "/version", "")

	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []json.RawMessage
	}
	check(json.Unmarshal(expect(200, "GET", configMaps, ""), &list), "list")
	before := len(list.Items)

	const watches, objects = 100, 120 // together below the streams that a connection may have
	var ready, done sync.WaitGroup
	ready.Add(watches)
	done.Add(watches)
	for number := 0; number < watches; number++ {
		go func() {
			defer done.Done()
			names := map[string]bool{}
			for each := 0; each < objects; each++ {
				names[fmt.Sprintf("c-%d", each)] = true
			}
			watch(list.Metadata.ResourceVersion, names, &ready)
		}()
	}
	ready.Wait()
	value := strings.Repeat("x", 30000)
	inParallel(objects, func(number int) {
		expect(201, "POST", configMaps, configMap(fmt.Sprintf("c-%d", number), value))
	})
	done.Wait()

	inParallel(100, func(number int) {
		for each := 0; each < 20; each++ {
			name := fmt.Sprintf("/c-%d", (number+each)%objects)
			if !strings.Contains(string(expect(200, "GET", configMaps+name, "")), value) {
				check(fmt.Errorf("not what was written"), name)
			}
		}
	})
	inParallel(8, func(int) {
		check(json.Unmarshal(expect(200, "GET", configMaps, ""), &list), "list")
	})
	if len(list.Items) != before+objects {
		check(fmt.Errorf("%d items", len(list.Items)), "list")
	}

	big := strings.Repeat("y", 1000000)
	inParallel(8, func(number int) {
		expect(201, "POST", configMaps, configMap(fmt.Sprintf("big-%d", number), big))
	})
	expect(413, "POST", configMaps, configMap("too-big", big+big+big+big))
	expect(404, "GET", configMaps+"/none", "")
	fmt.Println("ok", dials)
}
