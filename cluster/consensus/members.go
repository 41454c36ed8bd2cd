package consensus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
)

// peerHealth is what the leader noticed of the others' heartbeats.
type peerHealth struct {
	mu     sync.Mutex
	silent map[raft.ServerID]time.Time
}

// observe listens to raft until the node closes.
func (p *peerHealth) observe(n *Node) {
	p.silent = map[raft.ServerID]time.Time{}
	events := make(chan raft.Observation, 64)
	observer := raft.NewObserver(events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation, raft.PeerObservation, raft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	n.done.Go(func() {
		defer n.raft.DeregisterObserver(observer)
		for {
			select {
			case <-n.closing:
				return
			case o := <-events:
				p.mu.Lock()
				switch d := o.Data.(type) {
				case raft.FailedHeartbeatObservation:
					p.silent[d.PeerID] = d.LastContact
				case raft.ResumedHeartbeatObservation:
					delete(p.silent, d.PeerID)
				case raft.PeerObservation: // went, or came (back): it begins anew
					delete(p.silent, d.Peer.ID)
				case raft.RaftState:
					clear(p.silent) // whoever leads now begins to look
				}
				p.mu.Unlock()
			}
		}
	})
}

// Masters lists the members, ordered by name. Only the leader knows which of the
// others are alive; elsewhere all but the leader and this master are Unknown.
func (n *Node) Masters() ([]object.Master, error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, n.translate(err)
	}
	_, leader := n.raft.LeaderWithID()
	leads := n.raft.State() == raft.Leader
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	var out []object.Master
	for _, s := range f.Configuration().Servers {
		raftAddr, apiAddr := splitAddress(s.Address)
		_, silent := n.peers.silent[s.ID]
		known := leads || s.ID == leader || string(s.ID) == n.config.ID
		out = append(out, object.Master{
			Name: string(s.ID), Raft: raftAddr, API: apiAddr, Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader,
			Alive: known && !silent, Unknown: !known,
		})
	}
	slices.SortFunc(out, func(a, b object.Master) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (n *Node) voters() int {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return 0
	}
	voters := 0
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters
}

// AddVoter makes a running master a member, or gives a member new addresses. It
// is asked of the leader. The new master is reached first, because one that does
// not answer would count for the quorum all the same.
func (n *Node) AddVoter(ctx context.Context, m object.Master) error {
	if err := n.waitLeading(ctx); err != nil {
		return err
	}
	address := joinAddress(m.Raft, m.API)
	if n.streams != nil && m.Name != n.config.ID {
		conn, err := n.streams.connect(ctx, address)
		if err != nil {
			e := object.Errorf(object.CodeUnavailable, object.Ref{}, "master %s does not answer at %s: %w", m.Name, m.Raft, err)
			e.Hint = "Start it first, and check that this address can be reached from " + n.config.ID + " and is not its loopback address."
			return e
		}
		conn.Close()
	}
	return n.change(ctx, n.raft.AddVoter(raft.ServerID(m.Name), address, 0, n.config.ElectionTimeout*5))
}

// Remove takes a master out of the membership. It is asked of the leader; the
// leader may remove itself.
func (n *Node) Remove(ctx context.Context, id string) error {
	if err := n.waitLeading(ctx); err != nil {
		return err
	}
	masters, err := n.Masters()
	if err != nil {
		return err
	}
	known, voters, healthy := false, 0, 0
	for _, s := range masters {
		known = known || s.Name == id
		if s.Voter && s.Name != id {
			voters++
			if s.Alive {
				healthy++
			}
		}
	}
	switch {
	case !known:
		return &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("there is no master %q", id), Hint: "See berth master list."}
	case voters == 0:
		return &object.Error{Code: object.CodeInvalid, Message: "it is the only master", Hint: "Let another join first."}
	case healthy <= voters/2:
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("without %s only %d of %d masters would be healthy, too few to decide anything", id, healthy, voters), Hint: "Bring the others back first."}
	}
	return n.change(ctx, n.raft.RemoveServer(raft.ServerID(id), 0, n.config.ElectionTimeout*5))
}

func (n *Node) change(ctx context.Context, f raft.Future) error {
	select {
	case err := <-futureDone(f):
		if err != nil {
			return n.translate(err)
		}
		return nil
	case <-ctx.Done():
		return timeout(ctx, "")
	}
}

// TransferLeadership hands the leadership to another master, the given one or,
// if id is empty, the one that is furthest. Writes pause for milliseconds.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	if id == "" {
		return n.change(ctx, n.raft.LeadershipTransfer())
	}
	masters, err := n.Masters()
	if err != nil {
		return err
	}
	for _, s := range masters {
		if s.Name == id {
			return n.change(ctx, n.raft.LeadershipTransferToServer(raft.ServerID(id), joinAddress(s.Raft, s.API)))
		}
	}
	return &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("there is no master %q", id), Hint: "See berth master list."}
}
