package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/berthdev/berth/cluster/durable"
	"github.com/berthdev/berth/cluster/object"
)

// checkpoint is what the agent must know to go on without masters: the pods that
// they want here and the config maps that those read. It never holds a secret.
type checkpoint struct {
	Format int           `json:"format"`
	Node   string        `json:"node"`
	Pods   []*object.Pod `json:"pods"`
	// Configs are plain contents of config maps by "namespace/name" of the content.
	Configs map[string]map[string]string `json:"configs,omitempty"`
}

const checkpointFormat = 1

// loadCheckpoint reads the file; a missing one is empty. A damaged one is an
// error that the caller may survive: the masters tell it all again.
func loadCheckpoint(path, node string) (checkpoint, error) {
	c := checkpoint{Format: checkpointFormat, Node: node}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("checkpoint: %w", err)
	}
	var read checkpoint
	if err := json.Unmarshal(b, &read); err != nil {
		return c, fmt.Errorf("checkpoint %s is damaged: %w", path, err)
	}
	if read.Format != checkpointFormat {
		return c, fmt.Errorf("checkpoint %s has format %d, this version reads %d", path, read.Format, checkpointFormat)
	}
	if read.Node != node {
		return c, fmt.Errorf("checkpoint %s is of node %s, this is %s; use another data directory or remove it", path, read.Node, node)
	}
	return read, nil
}

// save replaces the file.
func (c *checkpoint) save(path string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := durable.Replace(path, b); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}
