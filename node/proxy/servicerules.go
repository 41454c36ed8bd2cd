package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// The chains of services. A new connection goes down a tree: by the address's
// /22 and /27 (or by 32 node ports) to the chain of one port of one service, whose
// rules translate at once. So its way is as long with 5,000 services as with 50, and
// a service that changes is one chain that is written.
const (
	chainServices = "BERTH-SERVICES"   // nat, from PREROUTING and OUTPUT
	chainPorts    = "BERTH-SVC-PORTS"  // nat: node ports
	chainMasq     = "BERTH-SVC-MASQ"   // nat, from POSTROUTING: whose answer would not come back this way
	chainSelf     = "BERTH-SVC-SELF"   // nat: pods that reach themselves
	chainReject   = "BERTH-SVC-REJECT" // filter, from FORWARD and OUTPUT: addresses that lead nowhere
	chainPass     = "BERTH-SVC-PASS"   // filter, from FORWARD: between the world and other nodes' pods
	chainClosed   = "BERTH-SVC-CLOSED" // filter, from INPUT: node ports that lead nowhere

	prefixAddresses = "BERTH-SVC-A-" // nat: a run of addresses
	prefixNodePorts = "BERTH-SVC-N-" // nat: a run of node ports
	prefixPods      = "BERTH-SVC-P-" // nat: a service's port: to all its pods
	prefixLocal     = "BERTH-SVC-L-" // nat: a service's port: to its pods on this node
)

const (
	bucketBits  = 5  // children of one chain of the tree: 32
	bucketStart = 27 // prefix of the smallest run of addresses
)

// affinityDefault is how long a client stays with its pod after its last connection.
const affinityDefault = 3 * time.Hour

// layout is all that the rules depend on besides services and endpoints.
type layout struct {
	node     string
	own      netip.Prefix // the pods of this node
	pods     netip.Prefix // the pods of all nodes
	services netip.Prefix // virtual addresses
	lacks    lacks
}

// lacks is what the kernel, or its iptables, cannot do.
type lacks struct {
	sctp     bool
	affinity bool
}

// part is what one service adds to the rules. It is a function of the layout, the
// service and its endpoints, and is kept while these stay the same.
type part struct {
	addr     netip.Addr          // virtual; none of services without one
	chains   map[string][]string // of the nat table
	virtual  []entry             // where its address leads
	ports    []entry             // where its node ports lead
	closed   []entry             // node ports that lead nowhere
	local    []netip.Addr        // its ready pods on this node
	flows    []flow              // of TCP and UDP
	problems []string
}

// entry is a rule of a chain that several services share.
type entry struct {
	addr     netip.Addr // not of node ports
	protocol string
	port     int
	service  object.Ref
	rule     string
}

// flow is a port of TCP or UDP, whose connections are looked after when pods leave.
type flow struct {
	protocol uint8
	addr     netip.Addr
	port     uint16
	nodePort uint16
	name     string // of the port
	service  *object.Service
	eps      *object.Endpoints // or nil
}

// target is a pod that a port may lead to.
type target struct {
	pod   string
	node  string
	share string
	at    netip.AddrPort
}

// group is a share of a service's connections, divided equally among its targets.
type group struct {
	weight  int64
	targets []target
}

// part builds the rules of one service. Endpoints may be nil.
func (l layout) part(svc *object.Service, eps *object.Endpoints) *part {
	p := &part{}
	if !svc.Spec.Virtual() || svc.Spec.Address == "" {
		return p
	}
	addr, err := netip.ParseAddr(svc.Spec.Address)
	if err != nil || !addr.Is4() {
		p.problem(svc, "its address %q is not an IPv4 address", svc.Spec.Address)
		return p
	}
	if svc.Spec.Affinity == "client_ip" && l.lacks.affinity {
		p.problem(svc, "affinity to a client's address needs the match \"recent\" of iptables, which this node's kernel lacks; connections are spread without it. Load the module xt_recent")
	}
	p.addr, p.chains = addr, map[string][]string{}
	for i := range svc.Spec.Ports {
		l.port(p, svc, &svc.Spec.Ports[i], addr, eps)
	}
	slices.SortFunc(p.local, netip.Addr.Compare)
	p.local = slices.Compact(p.local)
	return p
}

func (p *part) problem(svc *object.Service, format string, args ...any) {
	s := fmt.Sprintf("service %s/%s: ", svc.Namespace, svc.Name) + fmt.Sprintf(format, args...)
	if !slices.Contains(p.problems, s) {
		p.problems = append(p.problems, s)
	}
}

// port adds the rules of one port.
func (l layout) port(p *part, svc *object.Service, sp *object.ServicePort, addr netip.Addr, eps *object.Endpoints) {
	protocol := cmp.Or(sp.Protocol, "tcp")
	if protocol == "sctp" && l.lacks.sctp {
		p.problem(svc, "port %q is of sctp, which this node's kernel cannot forward; its other ports work. Load the modules nf_conntrack and xt_sctp, or use a kernel that has them", sp.Name)
		return
	}
	groups := p.groups(svc, sp.Name, eps)
	all, local := 0, 0
	everywhere := true // whether each share can be served on this node
	here := make([]group, len(groups))
	for i, g := range groups {
		here[i].weight = g.weight
		for _, t := range g.targets {
			if t.node == l.node {
				here[i].targets = append(here[i].targets, t)
				p.local = append(p.local, t.at.Addr())
			}
		}
		all, local = all+len(g.targets), local+len(here[i].targets)
		everywhere = everywhere && len(here[i].targets) > 0
	}
	name := fmt.Sprintf("%s/%s:%s", svc.Namespace, svc.Name, sp.Name)
	comment := `-m comment --comment "` + mark(name) + `"`
	match := fmt.Sprintf("-m %s --dport ", protocol)
	nodePort := 0
	if svc.Spec.Type == "node_port" {
		nodePort = sp.NodePort
	}
	if number := map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[protocol]; number != 0 {
		p.flows = append(p.flows, flow{protocol: number, addr: addr, port: uint16(sp.Port), nodePort: uint16(nodePort), name: sp.Name, service: svc, eps: eps})
	}
	if all == 0 {
		if nodePort != 0 {
			p.closed = append(p.closed, entry{protocol: protocol, port: nodePort, service: svc.Ref(),
				rule: fmt.Sprintf("! -d 127.0.0.0/8 -p %s %s -m addrtype --dst-type LOCAL %s%d -j REJECT --reject-with %s", protocol, comment, match, nodePort, refusal(protocol))})
		}
		return
	}
	chain := leaf(prefixPods, addr, name)
	p.chains[chain] = l.choose(svc, protocol, groups)
	p.virtual = append(p.virtual, entry{addr: addr, protocol: protocol, port: sp.Port, service: svc.Ref(),
		rule: fmt.Sprintf("-d %s/32 -p %s %s %s%d -j %s", addr, protocol, comment, match, sp.Port, chain)})
	if nodePort == 0 {
		return
	}
	// A caller from outside is led to a pod of this node, which then sees the caller's
	// own address; but shares that only other nodes can serve come before that.
	if everywhere && local < all {
		chain = leaf(prefixLocal, addr, name)
		p.chains[chain] = l.choose(svc, protocol, here)
	}
	p.ports = append(p.ports, entry{protocol: protocol, port: nodePort, service: svc.Ref(),
		rule: fmt.Sprintf("-p %s %s %s%d -j %s", protocol, comment, match, nodePort, chain)})
}

// pods are those that may be behind the port: whether anything new is led to them,
// or only what they have goes on. Few ask, so it is not kept for all services.
func (f *flow) pods() map[netip.AddrPort]bool {
	pods := map[netip.AddrPort]bool{}
	for _, g := range new(part).groups(f.service, f.name, f.eps) {
		for _, t := range g.targets {
			pods[t.at] = true
		}
	}
	if f.eps == nil {
		return pods
	}
	for _, list := range [][]object.Endpoint{f.eps.Spec.Ready, f.eps.Spec.NotReady, f.eps.Spec.Leaving} { // ready, but of no share, too
		for _, e := range list {
			a, err := netip.ParseAddr(e.Address)
			if at := netip.AddrPortFrom(a, uint16(e.Ports[f.name])); err == nil && at.Port() != 0 && !pods[at] {
				pods[at] = false
			}
		}
	}
	return pods
}

// groups are the service's shares with the ready pods of each that have the port;
// shares that get nothing are left out. A service without shares is one share.
func (p *part) groups(svc *object.Service, port string, eps *object.Endpoints) []group {
	if eps == nil {
		return nil
	}
	shares := svc.Spec.SharesIn(eps)
	split := len(shares) > 0
	if len(shares) == 0 {
		shares = []object.ServiceShare{{Weight: 1}}
	}
	var out []group
	for _, s := range shares {
		if s.Weight <= 0 {
			continue
		}
		g := group{weight: int64(s.Weight)}
		for _, e := range eps.Spec.Ready {
			n := e.Ports[port]
			if n == 0 || split && e.Share != s.Name {
				continue
			}
			a, err := netip.ParseAddr(e.Address)
			if err != nil || !a.Is4() {
				p.problem(svc, "pod %s has no IPv4 address but %q", e.Pod, e.Address)
				continue
			}
			g.targets = append(g.targets, target{pod: e.Pod, node: e.Node, share: s.Name, at: netip.AddrPortFrom(a, uint16(n))})
		}
		if len(g.targets) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// choose are the rules that lead a connection to one of the targets: each is tried
// in turn, with the chance that makes it fair among those that are left.
func (l layout) choose(svc *object.Service, protocol string, groups []group) []string {
	var stay, pick []string
	var later int64 // weight of the groups after this one
	for _, g := range groups {
		later += g.weight
	}
	sticky := svc.Spec.Affinity == "client_ip" && !l.lacks.affinity
	seconds := int64(cmp.Or(svc.Spec.AffinityTimeout.D(), affinityDefault) / time.Second)
	for _, g := range groups {
		later -= g.weight
		for i, t := range g.targets {
			left := int64(len(g.targets) - i)
			// Of the weight that is left, left/n·weight + later, one target is weight/n.
			n := int64(len(g.targets))
			chance := chance(g.weight, left*g.weight+later*n)
			set := ""
			if sticky {
				list := fmt.Sprintf("--name %s --mask 255.255.255.255 --rsource", affinityList(svc, t))
				stay = append(stay, fmt.Sprintf("-p %s -m recent --update --seconds %d --reap %s -j DNAT --to-destination %s", protocol, max(seconds, 1), list, t.at))
				set = "-m recent --set " + list + " "
			}
			pick = append(pick, fmt.Sprintf("-p %s %s%s-j DNAT --to-destination %s", protocol, chance, set, t.at))
		}
	}
	return append(stay, pick...)
}

// chance is the match that lets num of den pass. The kernel compares 31 random
// bits, so the true figure is off by 2^-32 at most; iptables prints it like this.
func chance(num, den int64) string {
	if num >= den {
		return ""
	}
	const unit = 1 << 31
	k := (num*unit + den/2) / den
	return "-m statistic --mode random --probability " + strconv.FormatFloat(float64(k)/unit, 'f', 11, 64) + " "
}

// refusal is the answer to a caller whom nobody serves.
func refusal(protocol string) string {
	if protocol == "tcp" {
		return "tcp-reset"
	}
	return "icmp-port-unreachable"
}

// affinityList names the kernel's list of the clients that stay with a pod: one for
// all ports, so that a client meets the same pod at each. A name has 199 bytes at
// most and is a file of /proc/net/xt_recent.
func affinityList(svc *object.Service, t target) string {
	return "BERTH-" + short(svc.Namespace+"/"+svc.Name+"/"+t.pod+"/"+t.at.Addr().String())
}

// leaf names the chain of a service's port. Names are sorted like the addresses by
// which the tree leads to them, and chains are written in the order of their names, so
// that what the kernel walks at every commit lies together in its memory.
func leaf(prefix string, addr netip.Addr, name string) string {
	a := addr.As4()
	return fmt.Sprintf("%s%x%s", prefix, a[:], short(name)[:8]) // 28 letters at most
}

// short is a name of 16 letters, as good as unique.
func short(name string) string {
	h := sha256.Sum256([]byte(name))
	return base32.StdEncoding.EncodeToString(h[:10])
}

// addressLevels are the lengths of the prefixes by which addresses are looked up:
// steps of five bits, so that no chain has more than 64 of them.
func (l layout) addressLevels() []int {
	levels := []int{bucketStart}
	for l.services.IsValid() && levels[0]-l.services.Bits() > bucketBits+1 {
		levels = slices.Insert(levels, 0, levels[0]-bucketBits)
	}
	return levels
}
