package consensus

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Network connects masters of one process in memory and can be cut: for tests
// and simulations.
type Network struct {
	mu      sync.Mutex
	members map[string]*member
	groups  map[string]int // of the partition in force; nil: none
}

type member struct {
	address   raft.ServerAddress
	transport *raft.InmemTransport
}

// NewNetwork returns a network without members.
func NewNetwork() *Network { return &Network{members: map[string]*member{}} }

func (n *Network) join(id string, address raft.ServerAddress) raft.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, t := raft.NewInmemTransportWithTimeout(address, 2*time.Second)
	n.members[id] = &member{address, t}
	n.wire()
	return t
}

func (n *Network) leave(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.members, id)
	n.wire()
}

// Partition cuts the network into groups of masters, by name. Who is named in
// none is alone.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = map[string]int{}
	for i, g := range groups {
		for _, id := range g {
			n.groups[id] = i + 1
		}
	}
	n.wire()
}

// Heal ends a partition.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = nil
	n.wire()
}

func (n *Network) wire() {
	for id, m := range n.members {
		m.transport.DisconnectAll()
		for other, o := range n.members {
			if id == other || n.groups == nil || (n.groups[id] != 0 && n.groups[id] == n.groups[other]) {
				m.transport.Connect(o.address, o.transport)
			}
		}
	}
}
