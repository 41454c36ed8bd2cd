package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/ociarchive"
)

// ImageCmd groups the images.
type ImageCmd struct {
	Import ImageImportCmd `cmd:"" help:"Give an OCI or docker archive to every node."`
	List   ImageListCmd   `cmd:"" default:"1" help:"List the images on the nodes."`
	Pack   ImagePackCmd   `cmd:"" help:"Make an image archive of one static program."`
}

// ImageImportCmd is `berth image import`.
type ImageImportCmd struct {
	JSONFlag
	Archive string `arg:"" type:"existingfile" help:"What docker save, podman save, skopeo or berth image pack wrote."`
}

// Run sends the archive to the masters, who hand it to every ready node.
func (c *ImageImportCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	nodes, err := cl.ImportImage(s.ctx, func() (io.ReadCloser, error) { return os.Open(c.Archive) })
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(nodes)
	}
	var errs []error
	for _, n := range nodes {
		if n.Error != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n.Node, n.Error))
			continue
		}
		for _, i := range n.Images {
			fmt.Fprintf(s.stdout, "%s: %s\n", n.Node, i.Name)
		}
	}
	if len(nodes) == 0 {
		return &object.Error{Code: object.CodeUnavailable, Message: "no node is ready to take the image", Hint: "See: berth node list"}
	}
	return errors.Join(errs...)
}

// ImageListCmd is `berth image list`.
type ImageListCmd struct{ JSONFlag }

// Run lists images by node.
func (c *ImageListCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	nodes, err := cl.Images(s.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(nodes)
	}
	rows := [][]string{{"NODE", "IMAGE", "SIZE", "DIGEST"}}
	for _, n := range nodes {
		if n.Error != nil {
			rows = append(rows, []string{n.Node, "(" + n.Error.Error() + ")", "", ""})
		}
		for _, i := range n.Images {
			rows = append(rows, []string{n.Node, i.Name, i.Size.Human(), i.Digest})
		}
	}
	return s.table(rows...)
}

// ImagePackCmd is `berth image pack`.
type ImagePackCmd struct {
	Program string            `arg:"" type:"existingfile" help:"A statically linked program."`
	Tag     string            `required:"" placeholder:"NAME:TAG" help:"Name of the image."`
	Out     string            `short:"o" required:"" type:"path" placeholder:"FILE" help:"Where to write the archive."`
	Path    string            `kong:"-"` // of the program in the image
	Env     map[string]string `placeholder:"NAME=VALUE" help:"Environment."`
	User    string            `placeholder:"UID[:GID]" help:"Who runs it."`
}

func (c *ImagePackCmd) write(w io.Writer) error {
	config := ociarchive.Config{Entrypoint: []string{c.Path}, User: c.User}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		config.Env = append(config.Env, name+"="+c.Env[name])
	}
	return ociarchive.Write(w, c.Tag, c.Program, config)
}

// Run writes the archive: one layer with one file.
func (c *ImagePackCmd) Run(s *session) error {
	if f, err := elf.Open(c.Program); err == nil {
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				return &object.Error{Code: object.CodeInvalid, Message: c.Program + " is linked dynamically and would not start in an empty image",
					Hint: "Build it statically; in Go: CGO_ENABLED=0."}
			}
		}
	}
	c.Path = "/" + filepath.Base(c.Program)
	tmp, err := os.CreateTemp(filepath.Dir(c.Out), ".berth-image-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = c.write(tmp)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), c.Out); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Packed %s as %s in %s\n", c.Program, c.Tag, c.Out)
	return nil
}
