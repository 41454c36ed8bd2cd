package ingress

import (
	"crypto/tls"
	"fmt"
	"maps"
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
	view  *object.NetworkView
	list  []*compiled // in the order of view.Ingresses
	sites map[string]*site
	acme  map[string]object.ACME // hosts whose certificate an authority gives
	lacks []string               // what cannot be served, in words
	// came and went are what is in this table and not in the one before, and the
	// other way round.
	came, went []*compiled
}

// emptyTable serves nothing.
func emptyTable() *table { return &table{view: &object.NetworkView{}, sites: map[string]*site{}} }

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
	ref       object.Ref
	to        []object.Destination
	secrets   *object.IngressSecrets
	front     *front
	routes    []*route
	upstreams []*upstream // each once
	cert      *tls.Certificate
	lacks     []string
}

// build makes the table of a view. It depends on nothing but its arguments, and
// takes over from the table before whatever was made of the same objects: with
// thousands of services, a change of one costs little.
func build(v *object.NetworkView, held secrets, before *table, l lasting) *table {
	t := &table{view: v, list: make([]*compiled, len(v.Ingresses))}
	moved := map[object.Ref]bool{} // services that are others now, or lead elsewhere
	differ(before.view.Services, v.Services, func(r object.Ref) { moved[r] = true })
	differ(before.view.Endpoints, v.Endpoints, func(r object.Ref) {
		r.Kind = object.KindService
		moved[r] = true
	})
	old := before.list
	for n, o := range v.Ingresses {
		ref := o.Ref()
		for len(old) > 0 && old[0].ref.Compare(ref) < 0 {
			t.went, old = append(t.went, old[0]), old[1:]
		}
		var was *compiled
		if len(old) > 0 && old[0].ref == ref {
			was, old = old[0], old[1:]
			if was.ingress == o && was.secrets == held[ref] && !slices.ContainsFunc(was.to, func(d object.Destination) bool { return moved[d.Service] }) {
				t.list[n] = was
				continue
			}
			t.went = append(t.went, was)
		}
		c := &compiled{ingress: o, ref: ref, to: o.Destinations(), secrets: held[ref]}
		c.compile(v, l, was)
		t.list[n] = c
		t.came = append(t.came, c)
	}
	t.went = append(t.went, old...)
	t.arrange(before)
	return t
}

// differ calls other for what is in one of two lists that are ordered by Ref and
// not, or not the same, in the other.
func differ[T object.Object](a, b []T, other func(object.Ref)) {
	for len(a) > 0 && len(b) > 0 {
		if object.Object(a[0]) == object.Object(b[0]) {
			a, b = a[1:], b[1:]
			continue
		}
		x, y := a[0].Head().Ref(), b[0].Head().Ref()
		switch c := x.Compare(y); {
		case c < 0:
			other(x)
			a = a[1:]
		case c > 0:
			other(y)
			b = b[1:]
		default:
			other(x)
			a, b = a[1:], b[1:]
		}
	}
	for _, o := range slices.Concat(a, b) {
		other(o.Head().Ref())
	}
}

// arrange enters the ingresses at their hosts. Hosts of which no ingress has
// changed are taken from the table before.
func (t *table) arrange(before *table) {
	changed := map[string]bool{}
	for _, c := range slices.Concat(t.came, t.went) {
		changed[c.ingress.Spec.Host] = true
	}
	t.sites = maps.Clone(before.sites)
	var order []*compiled
	for _, c := range t.list {
		if changed[c.ingress.Spec.Host] {
			order = append(order, c)
		}
	}
	for host := range changed {
		delete(t.sites, host)
	}
	slices.SortStableFunc(order, func(a, b *compiled) int { return object.CompareIngresses(a.ingress, b.ingress) })
	for _, c := range order {
		host := c.ingress.Spec.Host
		if t.sites[host] == nil {
			t.sites[host] = &site{exact: map[string]*route{}, prefix: map[string]*route{}}
		}
		t.sites[host].add(c)
	}
	t.acme = map[string]object.ACME{}
	for host, s := range t.sites {
		if s.acme != nil {
			t.acme[host] = *s.acme
		}
		t.lacks = append(t.lacks, s.lacks...)
	}
	slices.Sort(t.lacks)
}

// add enters an ingress behind those of higher precedence.
func (s *site) add(c *compiled) {
	for _, r := range c.routes {
		paths := s.prefix
		if r.exact {
			paths = s.exact
		}
		if first, taken := paths[r.path]; taken {
			s.lacks = append(s.lacks, fmt.Sprintf("%s: %s is served by %s already", c.ref, r.claim(), first.front.ref))
			continue
		}
		paths[r.path] = r
	}
	s.lacks = append(s.lacks, c.lacks...)
	if x := c.ingress.Spec.TLS; x != nil && s.cert == nil && s.acme == nil {
		s.cert, s.acme = c.cert, x.ACME
	}
}

// route finds who answers; nil for nobody. host and path are clean.
func (t *table) route(host, path string) *route {
	if s, ok := lookup(t.sites, host); ok {
		return s.route(path)
	}
	return nil
}

// certificate is that of a host by its own ingress, else by that of a wildcard.
func (t *table) certificate(host string) *tls.Certificate {
	if s := t.sites[host]; s != nil && s.cert != nil {
		return s.cert
	}
	if i := strings.IndexByte(host, '.'); i > 0 {
		if s := t.sites["*"+host[i:]]; s != nil {
			return s.cert
		}
	}
	return nil
}

// find looks an object up in a list that is ordered by Ref.
func find[T object.Object](list []T, ref object.Ref) (T, bool) {
	i := sort.Search(len(list), func(i int) bool { return list[i].Head().Ref().Compare(ref) >= 0 })
	if i < len(list) && list[i].Head().Ref() == ref {
		return list[i], true
	}
	var none T
	return none, false
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
func (c *compiled) compile(v *object.NetworkView, l lasting, was *compiled) {
	spec := &c.ingress.Spec
	f := &front{
		ref: c.ref, name: c.ingress.Namespace + "/" + c.ingress.Name, host: spec.Host, allow: prefixes(spec.Allow), deny: prefixes(spec.Deny),
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
		c.path(v, l, &spec.Paths[i], was)
	}
}

func (c *compiled) lack(format string, args ...any) {
	c.lacks = append(c.lacks, c.ref.String()+": "+fmt.Sprintf(format, args...))
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

func (c *compiled) path(v *object.NetworkView, l lasting, p *object.IngressPath, was *compiled) {
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
		r.backends = []backend{{pool: c.pool(v, l, r, p, p.Service, p.Port, before), weight: 1}}
	}
	for _, b := range p.Backends {
		r.backends = append(r.backends, backend{pool: c.pool(v, l, r, p, b.Service, b.Port, before), weight: b.Weight, header: parseCondition(b.Header), cookie: parseCondition(b.Cookie)})
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

func (c *compiled) pool(v *object.NetworkView, l lasting, r *route, p *object.IngressPath, service string, ref object.PortRef, before *route) *pool {
	out := &pool{service: service, turn: &rotor{}, start: &rotor{}}
	if before != nil {
		for _, b := range before.backends {
			if b.service == service {
				out.turn, out.start = b.turn, b.start
			}
		}
	}
	s, ok := find(v.Services, object.Ref{Kind: object.KindService, Namespace: c.ref.Namespace, Name: service})
	if !ok {
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
	e, ok := find(v.Endpoints, object.Ref{Kind: object.KindEndpoints, Namespace: c.ref.Namespace, Name: service})
	if !ok || len(e.Spec.Ready) == 0 {
		out.lacks = fmt.Sprintf("service %s has no ready pod", service)
		return out
	}
	names := []object.ServiceShare{{Weight: 1}}
	split := s.Spec.SharesIn(e)
	if len(split) > 0 {
		names = split
	}
	out.shares = make([]share, len(names))
	for i, n := range names {
		out.shares[i].weight = n.Weight
		for _, at := range e.Spec.Ready {
			number := at.Ports[port.Name]
			if number == 0 || len(split) > 0 && at.Share != n.Name {
				continue
			}
			up := l.upstream(upstreamKey{
				pod: c.ingress.Namespace + "/" + at.Pod, address: net.JoinHostPort(at.Address, strconv.Itoa(number)),
				protocol: p.Protocol, connect: p.ConnectTimeout.D(), answer: p.Timeout.D(),
			})
			if !slices.Contains(c.upstreams, up) {
				c.upstreams = append(c.upstreams, up)
			}
			out.shares[i].targets = append(out.shares[i].targets, target{up, l.series(seriesKey{c.front.name, r.label, service, up.revision, up.namespace()})})
		}
	}
	out.lacks = fmt.Sprintf("service %s has no ready pod with port %q", service, port.Name)
	return out
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
