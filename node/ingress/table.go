package ingress

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// table is where every request goes at one index. It is never changed.
type table struct {
	view     *object.NetworkView
	order    []*compiled              // by precedence
	compiled map[object.Ref]*compiled // the same
	sites    map[string]*site
	certs    map[string]*tls.Certificate
	acme     map[string]object.ACME // hosts whose certificate an authority gives
	lacks    []string               // what cannot be served, in words
}

// secrets are the plain secrets of ingresses, each at the newest known version.
type secrets map[object.Ref]*object.IngressSecrets

// lasting gives a table what outlives it.
type lasting interface {
	upstream(upstreamKey) *upstream
	series(seriesKey) *series
}

// compiled is an ingress as it is served, with all that it was made of: as long
// as that is the same, it is used again.
type compiled struct {
	ingress   *object.Ingress
	of        []object.Object // services and endpoints, nil for those that are not there
	secrets   *object.IngressSecrets
	front     *front
	routes    []*route
	upstreams []*upstream // each once
	cert      *tls.Certificate
	lacks     []string
}

// build makes the table of a view. It depends on nothing but its arguments, and
// takes over from the previous table whatever was made of the same.
func build(v *object.NetworkView, held secrets, before *table, l lasting) *table {
	t := &table{
		view: v, compiled: make(map[object.Ref]*compiled, len(v.Ingresses)),
		sites: map[string]*site{}, certs: map[string]*tls.Certificate{}, acme: map[string]object.ACME{},
	}
	for _, o := range v.Ingresses {
		ref := o.Ref()
		c := &compiled{ingress: o, of: sources(v, o), secrets: held[ref]}
		if was := before.compiled[ref]; was != nil && was.same(c) {
			c = was
		} else {
			c.compile(l, was)
		}
		t.compiled[ref] = c
		t.order = append(t.order, c)
	}
	slices.SortStableFunc(t.order, func(a, b *compiled) int { return object.CompareIngresses(a.ingress, b.ingress) })
	for _, c := range t.order {
		t.add(c)
	}
	return t
}

// add enters an ingress behind those of higher precedence.
func (t *table) add(c *compiled) {
	host := c.ingress.Spec.Host
	s := t.sites[host]
	if s == nil {
		s = &site{exact: map[string]*route{}, prefix: map[string]*route{}}
		t.sites[host] = s
	}
	for _, r := range c.routes {
		paths := s.prefix
		if r.exact {
			paths = s.exact
		}
		if first, taken := paths[r.path]; taken {
			t.lacks = append(t.lacks, fmt.Sprintf("%s: %s is served by %s already", c.ingress.Ref(), r.claim(), first.front.ref))
			continue
		}
		paths[r.path] = r
	}
	t.lacks = append(t.lacks, c.lacks...)
	if x := c.ingress.Spec.TLS; x != nil && t.certs[host] == nil {
		if c.cert != nil {
			t.certs[host] = c.cert
		}
		if _, taken := t.acme[host]; x.ACME != nil && !taken {
			t.acme[host] = *x.ACME
		}
	}
}

// route finds who answers; nil for nobody. host and path are clean.
func (t *table) route(host, path string) *route {
	if s, ok := lookup(t.sites, host); ok {
		return s.route(path)
	}
	return nil
}

// sources lists what the ingress leads to: for each destination the service and
// its endpoints.
func sources(v *object.NetworkView, o *object.Ingress) []object.Object {
	destinations := o.Destinations()
	out := make([]object.Object, 0, 2*len(destinations))
	for _, d := range destinations {
		var s, e object.Object
		if x := find(v.Services, d.Service); x != nil {
			s = x
		}
		if x := find(v.Endpoints, object.Ref{Kind: object.KindEndpoints, Namespace: d.Service.Namespace, Name: d.Service.Name}); x != nil {
			e = x
		}
		out = append(out, s, e)
	}
	return out
}

// find looks an object up in a list that is ordered by Ref.
func find[T interface {
	comparable
	object.Object
}](list []T, ref object.Ref) T {
	i := sort.Search(len(list), func(i int) bool { return list[i].Head().Ref().Compare(ref) >= 0 })
	if i < len(list) && list[i].Head().Ref() == ref {
		return list[i]
	}
	var none T
	return none
}

func (c *compiled) same(o *compiled) bool {
	return c.ingress == o.ingress && c.secrets == o.secrets && slices.Equal(c.of, o.of)
}

// front is what holds for every path of an ingress.
type front struct {
	ref         object.Ref
	name        string // namespace/name
	host        string
	allow, deny []netip.Prefix
	limit       *limiter
	auth        *auth
	headers     *object.HeaderRules
	bodyLimit   int64
	gzip        bool
	redirect    bool // plain requests, to HTTPS
}

// route is one path.
type route struct {
	front    *front
	path     string // canonical
	exact    bool
	backends []backend
	sum      int // of their weights
	turn     *rotor
	to       *object.Redirect
	strip    bool
	rewrite  string
	headers  *object.HeaderRules
	retries  int
	sticky   *object.Sticky
	label    string // path, in logs and metrics
	none     *series
}

func (r *route) claim() object.IngressClaim {
	c := object.IngressClaim{Host: r.front.host, Path: r.path, Match: "prefix"}
	if r.exact {
		c.Match = "exact"
	}
	return c
}

// compile fills in everything. was is the same ingress in the table before, or nil.
func (c *compiled) compile(l lasting, was *compiled) {
	spec := &c.ingress.Spec
	f := &front{
		ref: c.ingress.Ref(), name: c.ingress.Namespace + "/" + c.ingress.Name, host: spec.Host, allow: prefixes(spec.Allow), deny: prefixes(spec.Deny),
		headers: spec.Headers, bodyLimit: int64(spec.BodyLimit), gzip: spec.Gzip, redirect: spec.TLS != nil && spec.TLS.Redirect,
	}
	c.front = f
	if r := spec.RateLimit; r != nil {
		f.limit = newLimiter(*r)
		if was != nil && was.front.limit != nil && was.front.limit.rule == *r {
			f.limit = was.front.limit
		}
	}
	if a := spec.BasicAuth; a != nil {
		data, why := c.secret(a.Secret)
		f.auth = newAuth(a.Realm, data)
		if data == nil {
			c.lack("nobody gets in: %s", why)
		} else if was != nil && was.front.auth != nil && was.front.auth.same(f.auth) {
			f.auth = was.front.auth // with the passwords that it has checked
		}
	}
	if x := spec.TLS; x != nil && x.Secret != "" {
		c.certificate(x.Secret, was)
	}
	for i := range spec.Paths {
		c.path(l, &spec.Paths[i], was)
	}
}

func (c *compiled) lack(format string, args ...any) {
	c.lacks = append(c.lacks, c.ingress.Ref().String()+": "+fmt.Sprintf(format, args...))
}

// secret is the data of one of the ingress' secrets, or why there is none.
func (c *compiled) secret(name string) (map[string]string, string) {
	if c.secrets != nil {
		if s, ok := c.secrets.Secrets[name]; ok {
			return s.Data, ""
		}
	}
	if _, ok := c.ingress.Status.Secrets[name]; !ok {
		return nil, fmt.Sprintf("secret %q does not exist", name)
	}
	return nil, fmt.Sprintf("secret %q has not come from the masters yet", name)
}

func (c *compiled) certificate(name string, was *compiled) {
	data, why := c.secret(name)
	if data == nil {
		c.lack("no certificate for %s: %s", c.front.host, why)
		return
	}
	if was != nil && was.cert != nil && was.secrets == c.secrets && was.ingress.Spec.TLS.Secret == name {
		c.cert = was.cert
		return
	}
	pair, err := tls.X509KeyPair([]byte(data[object.TLSCertificate]), []byte(data[object.TLSKey]))
	if err != nil {
		c.lack("no certificate for %s: secret %q is not a key pair: %v", c.front.host, name, err)
		return
	}
	c.cert = &pair
}

func (c *compiled) path(l lasting, p *object.IngressPath, was *compiled) {
	r := &route{
		front: c.front, path: p.CanonicalPath(), exact: p.Match == "exact", to: p.Redirect, strip: p.StripPrefix, rewrite: p.Rewrite,
		headers: p.Headers, retries: p.Retries, sticky: p.Sticky, turn: &rotor{},
	}
	r.label = r.path
	if r.exact {
		r.label = "=" + r.path
	}
	r.none = l.series(seriesKey{ingress: c.front.name, route: r.label})
	before := was.find(r)
	if before != nil {
		r.turn = before.turn
	}
	if p.Service != "" {
		r.backends = []backend{{pool: c.pool(l, r, p, p.Service, p.Port, before), weight: 1}}
	}
	for _, b := range p.Backends {
		r.backends = append(r.backends, backend{pool: c.pool(l, r, p, b.Service, b.Port, before), weight: b.Weight, header: parseCondition(b.Header), cookie: parseCondition(b.Cookie)})
	}
	for _, b := range r.backends {
		r.sum += b.weight
	}
	c.routes = append(c.routes, r)
}

func (c *compiled) find(like *route) *route {
	if c != nil {
		for _, r := range c.routes {
			if r.path == like.path && r.exact == like.exact {
				return r
			}
		}
	}
	return nil
}

func (c *compiled) pool(l lasting, r *route, p *object.IngressPath, service string, ref object.PortRef, before *route) *pool {
	out := &pool{service: service, turn: &rotor{}, start: &rotor{}}
	if before != nil {
		for _, b := range before.backends {
			if b.service == service {
				out.turn, out.start = b.turn, b.start
			}
		}
	}
	s, e := c.destination(service)
	if s == nil {
		out.lacks = fmt.Sprintf("service %s does not exist", service)
		c.lack("%s: %s", r.path, out.lacks)
		return out
	}
	port, err := s.FindPort(ref)
	if err != nil {
		out.lacks = err.Error()
		c.lack("%s: %s", r.path, out.lacks)
		return out
	}
	if e == nil || len(e.Spec.Ready) == 0 {
		out.lacks = fmt.Sprintf("service %s has no ready pod", service)
		return out
	}
	names := []object.ServiceShare{{Weight: 1}}
	if len(s.Spec.Shares) > 0 {
		names = s.Spec.Shares
	}
	out.shares = make([]share, len(names))
	for i, n := range names {
		out.shares[i].weight = n.Weight
		for _, at := range e.Spec.Ready {
			number := at.Ports[port.Name]
			if number == 0 || len(s.Spec.Shares) > 0 && at.Share != n.Name {
				continue
			}
			up := l.upstream(upstreamKey{
				pod: c.ingress.Namespace + "/" + at.Pod, address: net.JoinHostPort(at.Address, strconv.Itoa(number)),
				protocol: p.Protocol, connect: p.ConnectTimeout.D(), answer: p.Timeout.D(),
			})
			if !slices.Contains(c.upstreams, up) {
				c.upstreams = append(c.upstreams, up)
			}
			out.shares[i].targets = append(out.shares[i].targets, target{up, l.series(seriesKey{c.front.name, r.label, service, up.revision})})
		}
	}
	out.lacks = fmt.Sprintf("service %s has no ready pod with port %q", service, port.Name)
	return out
}

func (c *compiled) destination(service string) (*object.Service, *object.Endpoints) {
	for i := 0; i < len(c.of); i += 2 {
		if s, ok := c.of[i].(*object.Service); ok && s.Name == service {
			e, _ := c.of[i+1].(*object.Endpoints)
			return s, e
		}
	}
	return nil, nil
}

func parseCondition(s string) *condition {
	if s == "" {
		return nil
	}
	name, value, has := strings.Cut(s, "=")
	return &condition{name: strings.TrimSpace(name), value: value, any: !has}
}

func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, ok := object.Prefix(s); ok {
			out = append(out, p)
		}
	}
	return out
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// seconds is a duration in whole seconds, at least one.
func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }
