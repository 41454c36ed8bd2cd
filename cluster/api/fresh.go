package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// index is an index of the log.
type index struct {
	Index uint64 `json:"index"`
}

// getIndex is the index that the leader has when the route's barrier is passed.
func (s *Server) getIndex(_ context.Context, _ *struct {
	Stale bool `query:"stale" doc:"Answer with what this master knows, which may be behind."`
}) (*answer[index], error) {
	return &answer[index]{Body: index{s.Cluster.Snapshot().Index()}}, nil
}

// catchUpTime bounds how long a master may take to know what the leader knows.
const catchUpTime = 10 * time.Second

// catchUp returns when this master's Snapshot holds everything that was
// acknowledged anywhere before the call: on a follower too, which asks the leader
// how far that is. Streams begin with it, for they cannot be forwarded cheaply.
func (s *Server) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	l := s.Cluster.Leader()
	if l.Self {
		return s.Cluster.Barrier(ctx)
	}
	if l.API == "" {
		return noLeader(l)
	}
	ctx, stop := s.whileLeading(ctx, l)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.API+"/v1/index", nil)
	if err != nil {
		return err
	}
	r.Header.Set(forwardedHeader, s.Name) // so that it is never sent on: who leads answers, or nobody
	r.Header.Set(identityHeader, string(object.RoleMaster)+"/"+s.Name)
	resp, err := s.transport(object.RoleMaster, l.Name).RoundTrip(r)
	if err != nil {
		return s.lost(r, l, err)
	}
	defer resp.Body.Close()
	var at index
	if resp.StatusCode != http.StatusOK {
		return noLeader(l)
	}
	if err := json.NewDecoder(resp.Body).Decode(&at); err != nil {
		return s.lost(r, l, err)
	}
	return s.Cluster.WaitApplied(ctx, at.Index)
}
