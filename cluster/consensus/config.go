package consensus

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
)

// DefaultElectionTimeout is Config.ElectionTimeout where none is given.
const DefaultElectionTimeout = 600 * time.Millisecond

// Config says who this master is and where it keeps its log.
type Config struct {
	ID string // the master's name, unique in the cluster

	// RaftAddress is where other masters reach this one's Raft (host:port),
	// APIAddress where clients and masters reach its API. Both travel with the
	// membership, so that every master can name the leader's API.
	RaftAddress string
	APIAddress  string

	Storage Storage

	// Listener accepts Raft connections from other masters. ServerTLS and
	// ClientTLS protect them, both ways verified; whoever builds them decides which
	// certificates are a master's. Dial, if set, replaces the network's dialer.
	Listener  net.Listener
	ServerTLS *tls.Config
	ClientTLS *tls.Config
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	// Network, if set, connects masters of one process in memory instead.
	Network *Network

	// Bootstrap names the first members, this one among them. It is used once,
	// when the storage is empty; a master that joins leaves it empty.
	Bootstrap []object.Master

	// ElectionTimeout is how long a leader may be silent, at the least, before
	// another is elected; at the most it is twice that. With the default a write
	// succeeds within 3 s of a leader's end, the clients' pauses included.
	ElectionTimeout time.Duration // default DefaultElectionTimeout
	// History is how many events watchers may lag behind.
	History int // default 100,000
	// SnapshotEntries is the number of log entries after which the log is compacted.
	SnapshotEntries uint64 // default 8192
	// MaxEntry is the size in bytes above which a changeset is split into parts,
	// and up to which changesets are committed together.
	MaxEntry int // default 512 KiB

	Logger *slog.Logger

	fault func(op string) error // tests: what a write to the storage answers
}

func (c *Config) complete() error {
	switch {
	case c.ID == "":
		return errors.New("consensus: the master has no name")
	case strings.ContainsAny(c.RaftAddress+c.APIAddress, addressSeparator+" "):
		return errors.New("consensus: an address must not contain a space or " + addressSeparator)
	case c.RaftAddress == "":
		return errors.New("consensus: the master has no Raft address")
	case c.Network == nil && c.Listener == nil:
		return errors.New("consensus: neither a listener nor a network is given")
	case !c.Storage.valid():
		return errors.New("consensus: no storage is given")
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = DefaultElectionTimeout
	}
	if c.History == 0 {
		c.History = 100_000
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.MaxEntry == 0 {
		c.MaxEntry = 512 << 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (c *Config) raft() *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID)
	r.HeartbeatTimeout = c.ElectionTimeout
	r.ElectionTimeout = c.ElectionTimeout
	r.LeaderLeaseTimeout = c.ElectionTimeout / 2
	r.CommitTimeout = min(50*time.Millisecond, c.ElectionTimeout/10)
	r.MaxAppendEntries = 1024 // with BatchApplyCh: 2.5 to 5 times the throughput of the defaults
	r.BatchApplyCh = true
	r.SnapshotThreshold = c.SnapshotEntries
	r.SnapshotInterval = 30 * time.Second
	r.TrailingLogs = c.SnapshotEntries / 4 // who lags further gets a snapshot
	r.NoLegacyTelemetry = true
	r.Logger = newLogger(c.Logger)
	return r
}

const addressSeparator = ";"

// joinAddress packs both addresses of a master into the one that Raft's
// membership carries; Raft itself never looks inside.
func joinAddress(raftAddr, apiAddr string) raft.ServerAddress {
	return raft.ServerAddress(raftAddr + addressSeparator + apiAddr)
}

func splitAddress(a raft.ServerAddress) (raftAddr, apiAddr string) {
	raftAddr, apiAddr, _ = strings.Cut(string(a), addressSeparator)
	return raftAddr, apiAddr
}
