package object

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (s *ServiceSpec) check(c *checker, at *step) {
	type listen struct {
		protocol string
		port     int
	}
	seen, nodePorts := map[listen]bool{}, map[listen]bool{}
	for _, p := range s.Ports {
		here := at.port(p.Name)
		key := listen{p.Protocol, p.Port}
		if seen[key] && p.Port != 0 {
			c.fail(here.to("port"), "Port used twice", "The service has %s port %d already.", p.Protocol, p.Port)
		}
		seen[key] = true
		if p.NodePort == 0 {
			continue
		}
		if s.Type != "node_port" {
			c.fail(here.to("node_port"), "Superfluous attribute", "node_port belongs to type = \"node_port\"; this service is of type %q.", s.Type)
		}
		key.port = p.NodePort
		if nodePorts[key] {
			c.fail(here.to("node_port"), "Port used twice", "The service has %s node port %d already.", p.Protocol, p.NodePort)
		}
		nodePorts[key] = true
	}
	c.labels(s.Selector, at.to("selector"))
	if s.Type == "external" {
		s.checkExternal(c, at)
		return
	}
	if len(s.Selector) == 0 {
		c.fail(at.to("selector"), "Missing attribute", "\"selector\" is needed here: a service of type %q leads to the pods that it picks.", s.Type)
	}
	if s.ExternalName != "" {
		c.fail(at.to("external_name"), "Superfluous attribute", "external_name belongs to type = \"external\"; this service is of type %q.", s.Type)
	}
	if s.Address != "" {
		if s.Type == "headless" {
			c.fail(at.to("address"), "Superfluous attribute", "A headless service has no address of its own.")
		} else {
			c.ip(s.Address, at.to("address"))
		}
	}
	if s.AffinityTimeout != 0 && s.Affinity != "client_ip" {
		c.fail(at.to("affinity_timeout"), "Superfluous attribute", "affinity_timeout belongs to affinity = \"client_ip\".")
	}
	if s.AffinityTimeout.D().Hours() > 24 {
		c.fail(at.to("affinity_timeout"), "Wrong duration", "A client stays with its pod for 24h at most.")
	}
	s.checkShares(c, at)
}

func (s *ServiceSpec) checkExternal(c *checker, at *step) {
	if !dnsName.MatchString(strings.TrimSuffix(s.ExternalName, ".")) {
		c.fail(at.to("external_name"), "Wrong host", "%q is not the name of a host, such as \"db.example\".", s.ExternalName)
	}
	if len(s.Selector) > 0 || s.Address != "" || len(s.Shares) > 0 {
		c.fail(at, "Superfluous attribute", "A service of type \"external\" is another name and nothing more: it has no selector, address or shares.")
	}
}

func (s *ServiceSpec) checkShares(c *checker, at *step) {
	sum := 0
	for _, share := range s.Shares {
		here := &step{up: at, name: "share", label: share.Name, key: true}
		c.labels(share.Selector, here.to("selector"))
		c.share(share.Weight, here.to("weight"))
		sum += share.Weight
	}
	if len(s.Shares) > 0 && sum == 0 {
		c.fail(at.to("share"), "No weight", "All shares weigh nothing, so nobody would get a connection.")
	}
}

// share checks a weight among others.
func (c *checker) share(n int, at *step) {
	if n > 10000 {
		c.fail(at, "Wrong weight", "%d is not a weight; it is 0 to 10000.", n)
	}
}

func (p *ServicePort) check(c *checker, at *step) {
	c.port(p.Port, at.to("port"))
	if n, number := p.Target.Number(); number && p.Target != "" {
		c.port(n, at.to("target"))
	}
	if p.NodePort != 0 {
		c.port(p.NodePort, at.to("node_port"))
	}
}

// ip checks an IPv4 address.
func (c *checker) ip(s string, at *step) {
	if a, err := netip.ParseAddr(s); err != nil || !a.Is4() {
		c.fail(at, "Wrong address", "%q is not an IPv4 address.", s)
	}
}

// Prefix reads a range of addresses, or a single one.
func Prefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, p == p.Masked()
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// prefix checks a range of addresses, or a single one.
func (c *checker) prefix(s string, at *step) (netip.Prefix, bool) {
	p, ok := Prefix(s)
	if !ok {
		if q, err := netip.ParsePrefix(s); err == nil {
			c.fail(at, "Wrong range", "%q has bits outside its prefix; did you mean %q?", s, q.Masked())
		} else {
			c.fail(at, "Wrong range", "%q is neither an address nor a range such as \"10.0.0.0/8\".", s)
		}
	}
	return p, ok
}

func (c *checker) prefixes(list []string, at *step) {
	for i, s := range list {
		c.prefix(s, &step{up: at.up, name: at.name, index: i + 1})
	}
}

func (n *NetworkSpec) check(c *checker, at *step) {
	pods, okPods := n.space(c, n.Pods, at.to("pods"))
	services, okServices := n.space(c, n.Services, at.to("services"))
	if okPods && okServices && pods.Overlaps(services) {
		c.fail(at.to("services"), "Ranges overlap", "The services' range %s and the pods' range %s share addresses; choose ranges apart.", services, pods)
	}
	if n.NodeBits != 0 && (n.NodeBits < 16 || n.NodeBits > 28 || okPods && n.NodeBits < pods.Bits()) {
		c.fail(at.to("node_bits"), "Wrong prefix length", "node_bits is %d; it is 16 to 28, and not shorter than the prefix of the pods' range.", n.NodeBits)
	}
	if n.NodePorts != "" {
		if _, _, ok := n.PortRange(); !ok {
			c.fail(at.to("node_ports"), "Wrong range of ports", "%q is not a range such as %q.", n.NodePorts, NodePortsDefault)
		}
	}
	if n.MTU != 0 && (n.MTU < 576 || n.MTU > 65535) {
		c.fail(at.to("mtu"), "Wrong size", "mtu is %d; it is 576 to 65535.", n.MTU)
	}
	if n.CNI != "" && !strings.HasPrefix(n.CNI, "/") {
		c.fail(at.to("cni"), "Relative path", "%q is not an absolute path.", n.CNI)
	}
	for i, u := range n.Upstream {
		if _, err := netip.ParseAddrPort(u); err != nil {
			if _, err := netip.ParseAddr(u); err != nil {
				c.fail(&step{up: at, name: "upstream", index: i + 1}, "Wrong address", "%q is not the address of a name server, ADDRESS or ADDRESS:PORT.", u)
			}
		}
	}
}

// space checks one of the network's ranges; an absent one is no mistake.
func (n *NetworkSpec) space(c *checker, s string, at *step) (netip.Prefix, bool) {
	if s == "" {
		return netip.Prefix{}, false
	}
	p, ok := c.prefix(s, at)
	if ok && (!p.Addr().Is4() || p.Bits() > 28 || p.Bits() < 8) {
		c.fail(at, "Wrong range", "%q is not an IPv4 range of /8 to /28.", s)
		ok = false
	}
	return p, ok
}

// PortRange is the first and the last node port.
func (n *NetworkSpec) PortRange() (first, last int, ok bool) {
	text := n.NodePorts
	if text == "" {
		text = NodePortsDefault
	}
	a, b, found := strings.Cut(text, "-")
	first, errA := strconv.Atoi(a)
	last, errB := strconv.Atoi(b)
	return first, last, found && errA == nil && errB == nil && first >= 1 && first <= last && last <= 65535
}

var (
	ingressHost = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	headerName  = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
)

func (i *IngressSpec) check(c *checker, at *step) {
	if i.Host != "" && !ingressHost.MatchString(i.Host) {
		c.fail(at.to("host"), "Wrong host", "%q is not a host name in lower case, such as \"shop.example\" or \"*.shop.example\".", i.Host)
	}
	if len(i.Paths) == 0 {
		c.fail(at.to("path"), "Missing block", "An ingress without a path leads nowhere; add path \"/\" { service = … }.")
	}
	c.prefixes(i.Allow, at.to("allow"))
	c.prefixes(i.Deny, at.to("deny"))
	if t := i.TLS; t != nil {
		here := at.to("tls")
		switch {
		case (t.Secret == "") == (t.ACME == nil):
			c.fail(here, "Not one certificate", "tls has exactly one of secret = … and acme { … }.")
		case i.Host == "":
			c.fail(at.to("host"), "Missing attribute", "A certificate is for a host: \"host\" is needed with tls.")
		case t.ACME != nil && strings.HasPrefix(i.Host, "*."):
			c.fail(here.to("acme"), "No certificate for a wildcard", "An authority proves hosts one by one over HTTP or TLS; name the hosts, or use a secret.")
		}
	}
	if r := i.RateLimit; r != nil && (r.Requests < 1 || r.Per <= 0) {
		c.fail(at.to("rate_limit"), "Wrong rate", "requests is 1 at least, and per more than 0s.")
	}
}

func (p *IngressPath) check(c *checker, at *step) {
	if !strings.HasPrefix(p.Path, "/") {
		c.fail(at, "Wrong path", "%q does not begin with a slash.", p.Path)
	}
	n := 0
	for _, set := range []bool{p.Service != "", len(p.Backends) > 0, p.Redirect != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		c.fail(at, "Not one destination", "A path has exactly one of service, backend blocks and redirect; this has %d.", n)
	}
	c.portRef(p.Port, at.to("port"))
	sum := 0
	for _, b := range p.Backends {
		here := &step{up: at, name: "backend", label: b.Service, key: true}
		c.portRef(b.Port, here.to("port"))
		c.share(b.Weight, here.to("weight"))
		sum += b.Weight
	}
	if len(p.Backends) > 0 && sum == 0 {
		c.fail(at.to("backend"), "No weight", "All backends weigh nothing, so most requests would have nowhere to go.")
	}
	if p.StripPrefix && p.Rewrite != "" {
		c.fail(at.to("rewrite"), "Two rewrites", "strip_prefix and rewrite exclude one another.")
	}
	if p.Rewrite != "" && !strings.HasPrefix(p.Rewrite, "/") {
		c.fail(at.to("rewrite"), "Wrong path", "%q does not begin with a slash.", p.Rewrite)
	}
	if p.Timeout <= 0 || p.ConnectTimeout <= 0 {
		c.fail(at, "Wrong duration", "timeout and connect_timeout are more than 0s.")
	}
}

func (c *checker) portRef(p PortRef, at *step) {
	if n, number := p.Number(); number && p != "" {
		c.port(n, at)
	}
}

func (r *Redirect) check(c *checker, at *step) {
	if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Code) {
		c.fail(at.to("code"), "Wrong status", "%d is not the status of a redirect: 301, 302, 303, 307 or 308.", r.Code)
	}
}

func (h *HeaderRules) check(c *checker, at *step) {
	for _, list := range []struct {
		field string
		names []string
	}{{"request", sortedKeys(h.Request)}, {"response", sortedKeys(h.Response)}, {"remove_request", h.RemoveRequest}, {"remove_response", h.RemoveResponse}} {
		for _, n := range list.names {
			if !headerName.MatchString(n) {
				c.fail(at.to(list.field), "Wrong header", "%q is not the name of a header.", n)
			}
		}
	}
}

// directions checks a list of ingress and egress.
func (c *checker) directions(list []string, at *step) {
	for i, d := range list {
		if d != "ingress" && d != "egress" {
			c.fail(&step{up: at.up, name: at.name, index: i + 1}, "Unknown value", "%s is not %q. %s", at.name, d, cure(d, []string{"ingress", "egress"}))
		}
	}
}

func (n *NamespaceSpec) check(c *checker, at *step) { c.directions(n.Isolate, at.to("isolate")) }

func (p *NetworkPolicySpec) check(c *checker, at *step) {
	c.labels(p.Selector, at.to("selector"))
	c.directions(p.Isolate, at.to("isolate"))
	for i, r := range p.Egress {
		here := &step{up: at, name: "egress", index: i + 1}
		pods := slices.ContainsFunc(r.To, func(q PolicyPeer) bool { return q.CIDR == "" && !q.Nodes })
		for j, x := range r.Ports {
			if _, number := x.Port.Number(); !pods && !number && x.Port != "" {
				c.fail((&step{up: here, name: "port", index: j + 1}).to("port"), "Nobody names this port", "The rule picks no pods that could give the name %q to a port; write the number, or say which pods it leads to.", x.Port)
			}
		}
	}
}

// Isolates reports whether only what a rule allows passes in a direction,
// "ingress" or "egress".
func (p *NetworkPolicySpec) Isolates(direction string) bool {
	if len(p.Isolate) > 0 {
		return slices.Contains(p.Isolate, direction)
	}
	if direction == "egress" {
		return len(p.Egress) > 0
	}
	return len(p.Ingress) > 0 || len(p.Egress) == 0
}

func (p *PolicyPeer) check(c *checker, at *step) {
	pods := len(p.Selector) > 0 || len(p.Namespaces) > 0 || len(p.NamespaceSelector) > 0
	n := 0
	for _, set := range []bool{pods, p.CIDR != "", p.Nodes} {
		if set {
			n++
		}
	}
	if n != 1 {
		c.fail(at, "Not one peer", "A peer is either pods (selector, namespaces, namespace_selector), or a range (cidr), or the nodes (nodes = true).")
	}
	c.labels(p.Selector, at.to("selector"))
	c.labels(p.NamespaceSelector, at.to("namespace_selector"))
	if p.CIDR == "" {
		if len(p.Except) > 0 {
			c.fail(at.to("except"), "Superfluous attribute", "except belongs to cidr.")
		}
		return
	}
	all, ok := c.prefix(p.CIDR, at.to("cidr"))
	for i, s := range p.Except {
		here := &step{up: at, name: "except", index: i + 1}
		if e, good := c.prefix(s, here); good && ok && (!all.Contains(e.Addr()) || e.Bits() < all.Bits()) {
			c.fail(here, "Range outside", "%s is not inside %s.", e, all)
		}
	}
}

func (p *PolicyPort) check(c *checker, at *step) {
	n, number := p.Port.Number()
	switch {
	case number && n < 1:
		c.fail(at.to("port"), "Wrong port", "%s is not a port; ports are 1 to 65535.", p.Port)
	case number:
		c.port(n, at.to("port"))
	}
	switch {
	case p.To == 0:
	case !number:
		c.fail(at.to("to"), "Run without a number", "A run of ports begins with a number, not with the name %q.", p.Port)
	case p.To < n:
		c.fail(at.to("to"), "Wrong run of ports", "The run ends at %d, before it begins at %d.", p.To, n)
	default:
		c.port(p.To, at.to("to"))
	}
}
