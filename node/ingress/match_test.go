package ingress

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// loose gives tables upstreams and series without a server.
type loose map[upstreamKey]*upstream

func (l loose) upstream(k upstreamKey) *upstream {
	if l[k] == nil {
		l[k] = newUpstream(k)
	}
	return l[k]
}

func (loose) series(k seriesKey) *series { return &series{key: k} }

func path(p, match, service string) object.IngressPath {
	return object.IngressPath{Path: p, Match: match, Service: service, Protocol: "http"}
}

func ingressOf(namespace, name, host string, created uint64, paths ...object.IngressPath) *object.Ingress {
	return &object.Ingress{Meta: object.Meta{Kind: object.KindIngress, Namespace: namespace, Name: name, Created: created}, Spec: object.IngressSpec{Host: host, Paths: paths}}
}

func tableOf(list ...*object.Ingress) *table {
	return build(&object.NetworkView{Index: 1, Ingresses: list}, nil, emptyTable(), loose{})
}

func TestRoutes(t *testing.T) {
	tab := tableOf(
		ingressOf("a", "default", "", 1, path("/", "prefix", "x")),
		ingressOf("a", "shop", "shop.example", 2, path("/", "prefix", "x"), path("/api/", "prefix", "x"), path("/api/v2", "prefix", "x"), path("/api", "exact", "x"), path("/login", "exact", "x")),
		ingressOf("b", "more", "shop.example", 3, path("/static", "prefix", "x"), path("/api", "prefix", "x")),
		ingressOf("b", "wild", "*.shop.example", 4, path("/only", "prefix", "x")),
	)
	for _, c := range []struct{ host, path, want string }{
		{"shop.example", "/", "a/shop /"},
		{"shop.example", "/apiary", "a/shop /"},
		{"shop.example", "/api", "a/shop =/api"},
		{"shop.example", "/api/", "a/shop /api"},
		{"shop.example", "/api/v1", "a/shop /api"},
		{"shop.example", "/api/v2", "a/shop /api/v2"},
		{"shop.example", "/api/v2/x/y", "a/shop /api/v2"},
		{"shop.example", "/api/v22", "a/shop /api"},
		{"shop.example", "/login", "a/shop =/login"},
		{"shop.example", "/login/", "a/shop /"},
		{"shop.example", "/static/x.css", "b/more /static"},
		{"SHOP.example.:8080", "/static", "b/more /static"},
		{"a.shop.example", "/only/x", "b/wild /only"},
		{"a.shop.example", "/", "nobody"}, // the host is the wildcard's; the default is for hosts that nobody names
		{"a.b.shop.example", "/only", "a/default /"},
		{"other.example", "/x", "a/default /"},
		{"", "/x", "a/default /"},
		{"[::1]:80", "/x", "a/default /"},
	} {
		got := "nobody"
		if r := tab.route(cleanHost(c.host), c.path); r != nil {
			got = r.front.name + " " + r.label
		}
		if got != c.want {
			t.Errorf("%s%s: %s, want %s", c.host, c.path, got, c.want)
		}
	}
	// What two claim stays with the older one, and it is said.
	if got := strings.Join(tab.lacks, "\n"); !strings.Contains(got, "ingress/b/more") || !strings.Contains(got, "shop.example, path /api is served by") {
		t.Errorf("the conflict is not told: %s", got)
	}
}

// TestLongestPrefix holds the look-up against the definition.
func TestLongestPrefix(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "c"})
	anyPath := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "segments"), "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		var paths []object.IngressPath
		for _, p := range rapid.SliceOfNDistinct(anyPath, 1, 8, rapid.ID).Draw(t, "prefixes") {
			paths = append(paths, path(p, "prefix", "x"))
		}
		tab := tableOf(ingressOf("a", "x", "h", 1, paths...))
		ask := anyPath.Draw(t, "ask")
		want := ""
		for _, p := range paths {
			if (ask == p.Path || strings.HasPrefix(ask, strings.TrimSuffix(p.Path, "/")+"/")) && len(p.Path) > len(want) {
				want = p.Path
			}
		}
		got := ""
		if r := tab.route("h", ask); r != nil {
			got = r.path
		}
		if got != want {
			t.Fatalf("%s among %v: %q, want %q", ask, paths, got, want)
		}
	})
}

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "//admin": "/admin", "/a//b///c/": "/a/b/c/", "/.well-known/x": "/.well-known/x", "/a/..b": "/a/..b",
		"/a/../b": "", "/a/./b": "", "/..": "", "/a/..": "", "": "", "*": "", "a": "", "//": "/",
	} {
		got, ok := cleanPath(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}

func TestOutwardPath(t *testing.T) {
	for _, c := range []struct {
		path, match, rewrite string
		strip                bool
		ask, want            string
	}{
		{"/api", "prefix", "", false, "/api/x%2Fy", "/api/x%2Fy"},
		{"/api", "prefix", "", true, "/api", "/"},
		{"/api", "prefix", "", true, "/api/", "/"},
		{"/api", "prefix", "", true, "/api/x/y", "/x/y"},
		{"/api", "prefix", "", true, "/api/x%2Fy", "/x%2Fy"},
		{"/api", "prefix", "", true, "/%61pi/x%2Fy", "/x%2Fy"},
		{"/a/b", "prefix", "", true, "/a%2Fb/x%2Fy", "/x/y"}, // the prefix itself was escaped: only the decoded form is left
		{"/", "prefix", "", true, "/x", "/x"},
		{"/", "prefix", "/v2", false, "/x", "/v2/x"},
		{"/api", "prefix", "/v2/", false, "/api/x", "/v2/x"},
		{"/api", "prefix", "/v2", false, "/api", "/v2"},
		{"/api", "prefix", "/v 2", false, "/api/x%2Fy", "/v%202/x%2Fy"},
		{"/old", "exact", "/new", false, "/old", "/new"},
		{"/api", "prefix", "", true, "//api//x", "/x"},
	} {
		r := &route{path: c.path, exact: c.match == "exact", rewrite: c.rewrite, strip: c.strip}
		u, err := url.Parse("http://h" + c.ask)
		if err != nil {
			t.Fatal(err)
		}
		clean, ok := cleanPath(u.Path)
		if !ok {
			t.Fatal(c.ask)
		}
		var out url.URL
		out.Path, out.RawPath = r.outward(u, clean)
		if got := out.EscapedPath(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestTurnsAreExact: in a row of as many turns as the weights sum up to, each gets
// its weight, and the turns of a small one are spread.
func TestTurnsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 60), 1, 5).Draw(t, "weights")
		sum := 0
		r := &route{turn: &rotor{}}
		for i, w := range weights {
			sum += w
			r.backends = append(r.backends, backend{pool: &pool{service: fmt.Sprint(i)}, weight: w})
		}
		if r.sum = sum; sum == 0 || len(weights) == 1 {
			return
		}
		r.turn.n.Store(rapid.Uint64Range(0, 1<<40).Draw(t, "start"))
		got := map[string]int{}
		for range sum {
			got[r.weighted().service]++
		}
		for i, w := range weights {
			if got[fmt.Sprint(i)] != w {
				t.Fatalf("%v: %v", weights, got)
			}
		}
	})
}

func TestCanaryTurnsAreSpread(t *testing.T) {
	r := &rotor{}
	var at []int
	for i := range 2000 {
		if r.next(100) < 5 {
			at = append(at, i)
		}
	}
	if len(at) != 100 {
		t.Fatalf("5 %% of 2000 are %d", len(at))
	}
	for i := 1; i < len(at); i++ {
		if gap := at[i] - at[i-1]; gap < 5 || gap > 60 {
			t.Errorf("turns %d and %d are %d apart", i-1, i, gap)
		}
	}
}

// TestPicks deals out equal parts, passes over tried pods and gives the part of an
// empty share to the others.
func TestPicks(t *testing.T) {
	up := func(name string) target {
		return target{up: newUpstream(upstreamKey{pod: "shop/" + name, address: name})}
	}
	p := &pool{turn: &rotor{}, start: &rotor{}, shares: []share{{weight: 1, targets: []target{up("a-0"), up("a-1"), up("a-2")}}}}
	got := map[string]int{}
	for range 3000 {
		got[p.pick(nil).up.key.pod]++
	}
	for _, n := range []string{"shop/a-0", "shop/a-1", "shop/a-2"} {
		if got[n] != 1000 {
			t.Errorf("%s has %d of 3000", n, got[n])
		}
	}
	first := p.shares[0].targets[0].up
	first.active.Store(5)
	for range 100 {
		if p.pick(nil).up == first {
			t.Fatal("the busiest pod was taken")
		}
	}
	first.active.Store(0)
	others := []*upstream{p.shares[0].targets[1].up, p.shares[0].targets[2].up}
	if got := p.pick(others); got.up != first {
		t.Errorf("with the others tried: %s", got.up.key.pod)
	}
	if p.pick(append(others, first)) != nil {
		t.Error("a pod was taken though all are tried")
	}
	shares := &pool{turn: &rotor{}, start: &rotor{}, shares: []share{{weight: 95, targets: []target{up("a-0"), up("a-1")}}, {weight: 5, targets: []target{up("b-0")}}, {weight: 900}}}
	got = map[string]int{}
	for range 2000 {
		got[revisionOf(shares.pick(nil).up.key.pod)]++
	}
	if got["a"] != 1900 || got["b"] != 100 {
		t.Errorf("95 to 5, and 900 for nobody: %v", got)
	}
}

func TestRevisionOf(t *testing.T) {
	for in, want := range map[string]string{"shop/web-7f9c-0": "web-7f9c", "shop/web-7f9c-12": "web-7f9c", "shop/bare": "bare", "shop/bare-x": "bare-x", "shop/-1": "-1"} {
		if got := revisionOf(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// TestUnchangedIsKept: what is made of the same objects is the same value, so that
// a change of one service among thousands costs little.
func TestUnchangedIsKept(t *testing.T) {
	w := func(n int) string { return fmt.Sprintf("svc-%04d", n) }
	v := &object.NetworkView{Index: 1}
	for i := range 50 {
		v.Services = append(v.Services, &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "a", Name: w(i)}, Spec: object.ServiceSpec{Ports: []object.ServicePort{{Name: "http", Port: 80}}}})
		v.Endpoints = append(v.Endpoints, &object.Endpoints{Meta: object.Meta{Kind: object.KindEndpoints, Namespace: "a", Name: w(i)}, Spec: object.EndpointsSpec{Ready: []object.Endpoint{{Pod: "p-0", Address: "10.0.0.1", Ports: map[string]int{"http": 80}}}}})
		v.Ingresses = append(v.Ingresses, ingressOf("a", w(i), w(i)+".example", 1, path("/", "prefix", w(i))))
	}
	l := loose{}
	one := build(v, nil, emptyTable(), l)
	v2 := *v
	v2.Index = 2
	v2.Endpoints = append([]*object.Endpoints(nil), v.Endpoints...)
	changed := v.Endpoints[7].Clone().(*object.Endpoints)
	changed.Spec.Ready = nil
	v2.Endpoints[7] = changed
	two := build(&v2, nil, one, l)
	for i, c := range two.list {
		if same := one.list[i] == c; same == (i == 7) {
			t.Errorf("%s: same = %v", c.ref, same)
		}
	}
	if len(two.came) != 1 || len(two.went) != 1 || two.went[0] != one.list[7] || two.sites[w(8)+".example"] != one.sites[w(8)+".example"] || two.sites[w(7)+".example"] == one.sites[w(7)+".example"] {
		t.Errorf("%d came, %d went", len(two.came), len(two.went))
	}
	// Whatever changes, the table is that which is made from nothing.
	v3 := v2
	v3.Ingresses = append([]*object.Ingress{ingressOf("a", "a", "svc-0003.example", 0, path("/", "prefix", "x"), path("/new", "prefix", w(9)))}, v2.Ingresses[:40]...)
	three, fresh := build(&v3, nil, two, l), build(&v3, nil, emptyTable(), l)
	if len(three.went) != 10 || len(three.sites) != 40 || len(fresh.sites) != 40 || fmt.Sprint(three.lacks) != fmt.Sprint(fresh.lacks) || len(three.lacks) == 0 {
		t.Errorf("%d went, %d sites, %v", len(three.went), len(three.sites), three.lacks)
	}
	for host, s := range fresh.sites {
		if fmt.Sprint(slices.Sorted(maps.Keys(s.prefix))) != fmt.Sprint(slices.Sorted(maps.Keys(three.sites[host].prefix))) {
			t.Errorf("%s differs", host)
		}
	}
}
