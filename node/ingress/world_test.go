package ingress

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"

	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/procfs"

	"github.com/berthdev/berth/cluster/object"
)

// world is a server with real sockets on loopback, and a view that tests change.
type world struct {
	t        *testing.T
	s        *Server
	registry *prometheus.Registry
	access   *syncBuffer
	secrets  *fakeSecrets
	client   *http.Client
	index    uint64

	services  map[string]*object.Service
	endpoints map[string]*object.Endpoints
	ingresses map[string]*object.Ingress
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// fakeSecrets are the masters, as far as secrets go.
type fakeSecrets struct {
	mu    sync.Mutex
	all   map[string]object.IngressSecrets // by namespace/name of the ingress
	err   error
	asked int
}

func (f *fakeSecrets) IngressSecrets(_ context.Context, namespace, name string) (object.IngressSecrets, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.all[namespace+"/"+name], f.err
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, registry: prometheus.NewRegistry(), access: &syncBuffer{}, secrets: &fakeSecrets{all: map[string]object.IngressSecrets{}},
		services: map[string]*object.Service{}, endpoints: map[string]*object.Endpoints{}, ingresses: map[string]*object.Ingress{}}
	cfg := Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), HTTP: []string{"127.0.0.1:0"}, HTTPS: []string{"127.0.0.1:0"}, Secrets: w.secrets, Access: w.access, Registry: w.registry}
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	w.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

func (w *world) plain() string {
	plain, _ := w.s.Addresses()
	return plain[0].String()
}

func (w *world) secure() string {
	_, secure := w.s.Addresses()
	return secure[0].String()
}

func meta(k object.Kind, name string) object.Meta {
	return object.Meta{Kind: k, Namespace: "shop", Name: name}
}

// service declares a service with a port "http" whose pods are at the addresses,
// by pod name.
func (w *world) service(name string, pods map[string]string) {
	if w.services[name] == nil {
		w.services[name] = &object.Service{Meta: meta(object.KindService, name), Spec: object.ServiceSpec{Type: "cluster", Ports: []object.ServicePort{{Name: "http", Port: 80, Protocol: "tcp"}}}}
	}
	e := &object.Endpoints{Meta: meta(object.KindEndpoints, name)}
	for pod, address := range pods {
		e.Spec.Ready = append(e.Spec.Ready, endpoint(pod, address))
	}
	slices.SortFunc(e.Spec.Ready, func(a, b object.Endpoint) int { return strings.Compare(a.Pod, b.Pod) })
	w.endpoints[name] = e
}

func endpoint(pod, address string) object.Endpoint {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err)
	}
	n, _ := strconv.Atoi(port)
	return object.Endpoint{Pod: pod, Node: "n1", Address: host, Ports: map[string]int{"http": n}}
}

// ingress declares an ingress; paths get the defaults that decoding gives them.
func (w *world) ingress(name string, spec object.IngressSpec) {
	created := uint64(len(w.ingresses) + 1)
	if was := w.ingresses[name]; was != nil {
		created = was.Created
	}
	for i := range spec.Paths {
		p := &spec.Paths[i]
		p.Match, p.Protocol = cmpOr(p.Match, "prefix"), cmpOr(p.Protocol, "http")
		p.Timeout, p.ConnectTimeout = cmpOr(p.Timeout, object.Duration(time.Minute)), cmpOr(p.ConnectTimeout, object.Duration(2*time.Second))
	}
	o := &object.Ingress{Meta: meta(object.KindIngress, name), Spec: spec}
	o.Created = created
	w.ingresses[name] = o
}

func cmpOr[T comparable](v, or T) T {
	var zero T
	if v == zero {
		return or
	}
	return v
}

// reads gives the ingress a secret as the masters would: its digest in the status,
// its content to whoever asks.
func (w *world) reads(ingress, secret string, data map[string]string) {
	o := w.ingresses[ingress].Clone().(*object.Ingress)
	digest := object.Digest(data)
	o.Status.Secrets = map[string]string{secret: digest}
	w.secrets.mu.Lock()
	all := map[string]object.PlainSecret{secret: {Digest: digest, Data: data}}
	for k, v := range w.secrets.all["shop/"+ingress].Secrets {
		if _, ok := all[k]; !ok {
			all[k], o.Status.Secrets[k] = v, v.Digest
		}
	}
	w.secrets.all["shop/"+ingress] = object.IngressSecrets{Secrets: all}
	w.secrets.mu.Unlock()
	w.ingresses[ingress] = o
}

func values[T object.Object](m map[string]T) []T {
	var out []T
	for _, v := range m {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b T) int { return a.Head().Ref().Compare(b.Head().Ref()) })
	return out
}

func (w *world) view() *object.NetworkView {
	w.index++
	return &object.NetworkView{Index: w.index, Services: values(w.services), Endpoints: values(w.endpoints), Ingresses: values(w.ingresses)}
}

func (w *world) apply() {
	w.t.Helper()
	if err := w.s.Apply(w.t.Context(), w.view()); err != nil {
		w.t.Fatal(err)
	}
}

// waitFor waits for a condition that a goroutine of the server brings about.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

type answer struct {
	*http.Response
	body string
}

// get asks the server for a path of a host.
func (w *world) get(host, path string, change ...func(*http.Request)) answer {
	w.t.Helper()
	r, err := http.NewRequest("GET", "http://"+w.plain()+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = host
	for _, c := range change {
		c(r)
	}
	return w.do(w.client, r)
}

func (w *world) do(c *http.Client, r *http.Request) answer {
	w.t.Helper()
	res, err := c.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res, string(b)}
}

func (a answer) want(t *testing.T, status int, body string) {
	t.Helper()
	if a.StatusCode != status || !strings.Contains(a.body, body) {
		t.Fatalf("got %d %q, want %d %q", a.StatusCode, a.body, status, body)
	}
}

// pod is a server on loopback, which says its name and what it was asked.
func pod(t *testing.T, name string) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pod", name)
		seen := map[string]any{"pod": name, "path": r.URL.Path, "raw": r.URL.EscapedPath(), "query": r.URL.RawQuery, "host": r.Host, "headers": r.Header, "method": r.Method, "proto": r.Proto}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		seen["body"] = len(b)
		_ = json.NewEncoder(w).Encode(seen)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// saw is what a pod says it was asked.
type saw struct {
	Pod, Path, Raw, Query, Host, Method, Proto string
	Headers                                    http.Header
	Body                                       int
}

func (a answer) saw(t *testing.T) saw {
	t.Helper()
	var s saw
	if a.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return s
}

// authority makes certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

func (a *authority) issue(t *testing.T, hosts ...string) map[string]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		object.TLSCertificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		object.TLSKey:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})),
	}
}

// tlsClient trusts the authority and finds every host at the server.
func (w *world) tlsClient(a *authority, http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}, ForceAttemptHTTP2: http2, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, w.secure())
	}}
	if !http2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: w.client.CheckRedirect}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// connections counts this machine's established connections to an address.
func connections(address string) (int, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	all, err := proc.NetTCP() //nolint:staticcheck // see holder
	if err != nil {
		return 0, err
	}
	n := 0
	for _, c := range all {
		if c.St == 1 && net.JoinHostPort(c.RemAddr.String(), strconv.FormatUint(c.RemPort, 10)) == address {
			n++
		}
	}
	return n, nil
}
