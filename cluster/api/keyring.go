package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

type rotation struct {
	Primary string `json:"primary"` // id of the key that seals from now on
}

// postRotation gives the cluster a new sealing key. Every other master must take
// it before anything is sealed by it, or none would be able to open that.
func (s *Server) postRotation(ctx context.Context, _ *noInput) (*answer[rotation], error) {
	id, err := s.Keys.Prepare()
	if err != nil {
		return nil, err
	}
	if err := s.shareKeys(ctx); err != nil {
		return nil, err
	}
	if err := s.Keys.Promote(id); err != nil {
		return nil, err
	}
	if err := s.shareKeys(ctx); err != nil {
		// They can open what is sealed by it; the next rotation tells them to use it.
		s.Log.Warn("a master did not learn of the new sealing key's promotion", "error", err)
	}
	s.Log.Info("a new sealing key is in use", "key", id, "by", identityOf(ctx).Name)
	return &answer[rotation]{Body: rotation{Primary: id}}, nil
}

// shareKeys gives this master's keyring to all others.
func (s *Server) shareKeys(ctx context.Context) error {
	b, err := s.Keys.Export()
	if err != nil {
		return err
	}
	for _, m := range s.Cluster.Masters() {
		if m.Name == s.Name {
			continue
		}
		if err := s.sendKeys(ctx, m, b); err != nil {
			return err
		}
	}
	return nil
}

// keysTime is how long a master may take to take keys.
const keysTime = 10 * time.Second

// sendKeys gives an exported keyring to a master.
func (s *Server) sendKeys(ctx context.Context, m object.Master, ring []byte) error {
	if m.Name == s.Name {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+m.API+"/v1/keyring", bytes.NewReader(ring))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.transport(object.RoleMaster, m.Name).RoundTrip(r)
	if err != nil {
		e := object.Errorf(object.CodeUnavailable, object.Ref{}, "master %s did not take the keys that secrets are sealed by: %w", m.Name, err)
		e.Hint = "All masters must be running to rotate keys; remove those that will not come back."
		return e
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, smallBody))
	if err != nil || resp.StatusCode >= 300 {
		return object.Errorf(object.CodeUnavailable, object.Ref{}, "master %s did not take the keys that secrets are sealed by: %s %s", m.Name, resp.Status, bytes.TrimSpace(answer))
	}
	return nil
}

// putKeyring takes the keys of the leader.
func (s *Server) putKeyring(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.Keys.Merge(b)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, json.RawMessage(`{}`))
}
