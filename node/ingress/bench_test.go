package ingress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// The benchmark's proxy and pod are processes of their own: this binary again, in
// one of these roles, so that the load does not share their scheduler and heap.
const (
	roleVariable = "BERTH_INGRESS_BENCH"
	podVariable  = "BERTH_INGRESS_POD"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "pod":
		benchPod()
	case "ingress":
		benchIngress(os.Getenv(podVariable))
	default:
		os.Exit(m.Run())
	}
}

// announce tells the parent the address, and ends with it.
func announce(address string) {
	fmt.Println(address)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// benchPod is an ordinary small service: net/http and 128 bytes.
func benchPod() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	body := bytes.Repeat([]byte("x"), 128)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) }))
	announce(l.Addr().String())
}

func benchIngress(pod string) {
	dir, err := os.MkdirTemp("", "berth-ingress-bench-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	access := LogFile(filepath.Join(dir, "access.log"), 100, 1)
	s, err := Open(Config{HTTP: []string{"127.0.0.1:0"}, Access: access})
	if err != nil {
		panic(err)
	}
	w := &world{s: s, services: map[string]*object.Service{}, endpoints: map[string]*object.Endpoints{}, ingresses: map[string]*object.Ingress{}}
	w.service("web", map[string]string{"web-1-0": pod})
	w.ingress("shop", simple("shop.example", to("/", "web"), to("/api", "web")))
	if err := s.Apply(context.Background(), w.view()); err != nil {
		panic(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.RemoveAll(dir)
		os.Exit(0)
	}()
	fmt.Println(w.plain())
	select {}
}

// child starts a process that lives as long as the benchmark and tells its address.
func child(b *testing.B, role, pod string) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, podVariable+"="+pod)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

const nginxConf = `
worker_processes auto;
pid %[1]s/pid;
error_log %[1]s/error.log;
daemon off;
user root;
events { worker_connections 4096; }
http {
	log_format json escape=json '{"time":"$time_iso8601","id":"$request_id","client":"$remote_addr","method":"$request_method","host":"$host","path":"$uri","status":$status,"bytes_out":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_addr"}';
	access_log %[1]s/access.log json;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000000;
	upstream web { server %[3]s; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen %[2]s;
		server_name shop.example;
		location / {
			proxy_pass http://web;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $host;
			proxy_set_header X-Request-Id $request_id;
		}
	}
}
`

// nginx starts Debian's nginx before the pod; without it the address is empty.
func nginx(b *testing.B, pod string) string {
	b.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		return ""
	}
	dir := b.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, address, pod), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-p", dir, "-c", conf)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		if time.Now().After(deadline) {
			b.Fatalf("nginx does not listen: %s", said.String())
		}
	}
}

const benchConnections = 64

// load sends n requests over keep-alive connections, each connection the next as
// soon as it has its answer, and gathers how long each took.
func load(b *testing.B, address string, n int) (all time.Duration, took []time.Duration) {
	b.Helper()
	request := []byte("GET /api/items?page=3 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\n\r\n")
	var left atomic.Int64
	left.Store(int64(n))
	parts := make([][]time.Duration, benchConnections)
	var failed atomic.Value
	var wg sync.WaitGroup
	began := time.Now()
	for i := range benchConnections {
		wg.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				failed.Store(err)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for left.Add(-1) >= 0 {
				at := time.Now()
				if _, err := c.Write(request); err != nil {
					failed.Store(err)
					return
				}
				if err := answered(r); err != nil {
					failed.Store(err)
					return
				}
				parts[i] = append(parts[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	all = time.Since(began)
	if err, ok := failed.Load().(error); ok {
		b.Fatalf("%s: %v", address, err)
	}
	return all, slices.Concat(parts...)
}

// answered reads one answer with a length.
func answered(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) <= 2 {
			break
		}
		if k, v, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(k, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer without length")
	}
	_, err := r.Discard(length)
	return err
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// BenchmarkKeepAlive measures requests over keep-alive connections through the
// ingress and, where it is installed, through Debian's nginx, in turns, so that
// what else the machine does hits both. Proxy, pod and load share its processors.
func BenchmarkKeepAlive(b *testing.B) {
	pod := child(b, "pod", "")
	ours := child(b, "ingress", pod)
	theirs := nginx(b, pod)
	const turns = 6
	n := max(b.N/turns, benchConnections)
	load(b, ours, n/2) // warm
	if theirs != "" {
		load(b, theirs, n/2)
	}
	b.ResetTimer()
	type sum struct {
		all  time.Duration
		took []time.Duration
	}
	var berth, other sum
	for range turns {
		all, took := load(b, ours, n)
		berth.all, berth.took = berth.all+all, append(berth.took, took...)
		if theirs != "" {
			all, took := load(b, theirs, n)
			other.all, other.took = other.all+all, append(other.took, took...)
		}
	}
	rate := func(s sum) float64 { return float64(len(s.took)) / s.all.Seconds() }
	b.ReportMetric(rate(berth), "req/s")
	b.ReportMetric(float64(p99(berth.took).Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
	if theirs != "" {
		b.ReportMetric(rate(other), "nginx-req/s")
		b.ReportMetric(float64(p99(other.took).Microseconds())/1000, "nginx-p99-ms")
		b.ReportMetric(rate(berth)/rate(other), "x-nginx")
		b.ReportMetric(float64(p99(berth.took))/float64(p99(other.took)), "p99-x-nginx")
	}
}

// BenchmarkApply changes the endpoints of one service among 5,000, each with an
// ingress and ten pods.
func BenchmarkApply(b *testing.B) {
	s, err := Open(Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(context.Background()) })
	v := &object.NetworkView{}
	for i := range 5000 {
		name := fmt.Sprintf("svc-%04d", i)
		e := &object.Endpoints{Meta: meta(object.KindEndpoints, name)}
		for j := range 10 {
			e.Spec.Ready = append(e.Spec.Ready, endpoint(fmt.Sprintf("%s-1-%d", name, j), fmt.Sprintf("10.%d.%d.%d:80", j, i>>8, i&255)))
		}
		v.Services = append(v.Services, &object.Service{Meta: meta(object.KindService, name), Spec: object.ServiceSpec{Type: "cluster", Ports: []object.ServicePort{{Name: "http", Port: 80, Protocol: "tcp"}}}})
		v.Endpoints = append(v.Endpoints, e)
		v.Ingresses = append(v.Ingresses, &object.Ingress{Meta: meta(object.KindIngress, name), Spec: simple(name+".example", object.IngressPath{Path: "/", Match: "prefix", Service: name, Protocol: "http"})})
	}
	if err := s.Apply(context.Background(), v); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		next := *v
		next.Index++
		next.Endpoints = slices.Clone(v.Endpoints)
		e := v.Endpoints[2500].Clone().(*object.Endpoints)
		e.Spec.Ready = slices.Concat(e.Spec.Ready[1:], e.Spec.Ready[:1])
		next.Endpoints[2500] = e
		if err := s.Apply(context.Background(), &next); err != nil {
			b.Fatal(err)
		}
		v = &next
	}
}
