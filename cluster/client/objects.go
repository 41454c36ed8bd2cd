package client

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/object"
)

// ListOptions narrow a listing; the zero value lists all.
type ListOptions struct {
	Namespace string
	Stack     string
	Labels    map[string]string
	Node      string // pods bound to it
	Stale     bool   // whatever the master asked knows; may be behind
	Rows      bool   // without templates, and revisions without the objects that they change
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	set := func(k, v string) {
		if v != "" {
			q.Set(k, v)
		}
	}
	set("stack", o.Stack)
	set("node", o.Node)
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
		labels = append(labels, k+"="+o.Labels[k])
	}
	set("labels", strings.Join(labels, ","))
	if o.Stale {
		q.Set("stale", "true")
	}
	if o.Rows {
		q.Set("expand", "false")
	}
	return q
}

// path is the URL of an object, or of a kind's collection when the name is empty.
func path(r object.Ref) (string, error) {
	info, ok := object.Info(r.Kind)
	if !ok {
		return "", object.Errorf(object.CodeInvalid, r, "there is no kind %q", r.Kind)
	}
	p := "/v1/"
	if info.Namespaced && r.Namespace != "" {
		p += "namespaces/" + r.Namespace + "/"
	}
	p += info.Plural
	if r.Name != "" {
		if info.Namespaced && r.Namespace == "" {
			return "", object.Errorf(object.CodeInvalid, r, "a %s lives in a namespace; none is given", r.Kind)
		}
		p += "/" + r.Name
	}
	return p, nil
}

// Get reads one object.
func (c *Client) Get(ctx context.Context, r object.Ref) (object.Object, error) {
	p, err := path(r)
	if err != nil {
		return nil, err
	}
	var a object.Any
	if err := c.exchange(ctx, http.MethodGet, p, nil, nil, &a); err != nil {
		return nil, err
	}
	return a.Object, nil
}

// Get reads one object of a known type: Get[*object.Pod](ctx, c, ref).
func Get[T object.Object](ctx context.Context, c *Client, r object.Ref) (T, error) {
	var zero T
	o, err := c.Get(ctx, r)
	if err != nil {
		return zero, err
	}
	t, ok := o.(T)
	if !ok {
		return zero, object.Errorf(object.CodeInternal, r, "the master answered with a %T", o)
	}
	return t, nil
}

// List reads a kind's objects, ordered by namespace and name.
func (c *Client) List(ctx context.Context, k object.Kind, o ListOptions) (object.Page, error) {
	p, err := path(object.Ref{Kind: k, Namespace: o.Namespace})
	if err != nil {
		return object.Page{}, err
	}
	var raw struct {
		Index uint64            `json:"index"`
		Items []json.RawMessage `json:"items"`
	}
	if err := c.exchange(ctx, http.MethodGet, p, o.query(), nil, &raw); err != nil {
		return object.Page{}, err
	}
	page := object.Page{Index: raw.Index, Items: make([]object.Any, len(raw.Items))}
	return page, decodeItems(raw.Items, page.Items)
}

// decodeItems decodes a page on as many goroutines as there are processors.
func decodeItems(raw []json.RawMessage, items []object.Any) error {
	parts := runtime.GOMAXPROCS(0)
	var g errgroup.Group
	for i := range parts {
		from, to := len(raw)*i/parts, len(raw)*(i+1)/parts
		if from == to {
			continue
		}
		g.Go(func() error {
			for j := from; j < to; j++ {
				if err := items[j].UnmarshalJSON(raw[j]); err != nil {
					return object.Errorf(object.CodeUnavailable, object.Ref{}, "the answer cannot be read: %w", err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// List reads a kind's objects of a known type.
func List[T object.Object](ctx context.Context, c *Client, k object.Kind, o ListOptions) ([]T, error) {
	page, err := c.List(ctx, k, o)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(page.Items))
	for _, a := range page.Items {
		t, ok := a.Object.(T)
		if !ok {
			return nil, object.Errorf(object.CodeInternal, object.Ref{Kind: k}, "the master answered with a %T", a.Object)
		}
		out = append(out, t)
	}
	return out, nil
}

// Create makes an object; CodeExists when it is there already.
func (c *Client) Create(ctx context.Context, o object.Object) (object.Written, error) {
	return c.write(ctx, http.MethodPost, object.Ref{Kind: o.Ref().Kind, Namespace: o.Ref().Namespace}, o)
}

// Put makes or replaces an object. When Meta.Version is set the object must
// still have it, else CodeConflict.
func (c *Client) Put(ctx context.Context, o object.Object) (object.Written, error) {
	return c.write(ctx, http.MethodPut, o.Ref(), o)
}

func (c *Client) write(ctx context.Context, method string, at object.Ref, o object.Object) (object.Written, error) {
	var w object.Written
	p, err := path(at)
	if err != nil {
		return w, err
	}
	err = c.exchange(ctx, method, p, nil, object.Any{Object: o}, &w)
	return w, err
}

// Delete deletes an object; version 0 means whatever it is by now.
func (c *Client) Delete(ctx context.Context, r object.Ref, version uint64) (object.Written, error) {
	var w object.Written
	p, err := path(r)
	if err != nil {
		return w, err
	}
	q := url.Values{}
	if version != 0 {
		q.Set("version", strconv.FormatUint(version, 10))
	}
	err = c.exchange(ctx, http.MethodDelete, p, q, nil, &w)
	return w, err
}

// Update reads an object, lets change edit a clone of it and writes that, again
// when somebody else wrote in between. change may be called several times.
func Update[T object.Object](ctx context.Context, c *Client, r object.Ref, change func(T) error) (T, error) {
	var zero T
	for {
		seen, err := Get[T](ctx, c, r)
		if err != nil {
			return zero, err
		}
		o, ok := seen.Clone().(T)
		if !ok {
			return zero, object.Errorf(object.CodeInternal, r, "a clone of another type")
		}
		if err := change(o); err != nil {
			return zero, err
		}
		w, err := c.Put(ctx, o)
		if object.IsCode(err, object.CodeConflict) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return zero, err
		}
		o, ok = w.Object.Object.(T)
		if !ok {
			return zero, object.Errorf(object.CodeInternal, r, "the master answered with a %T", w.Object.Object)
		}
		return o, nil
	}
}

// Propose commits a changeset as it is, whole or not at all.
func (c *Client) Propose(ctx context.Context, s object.Changeset) (uint64, error) {
	var w object.Written
	err := c.exchange(ctx, http.MethodPost, "/v1/changesets", nil, s, &w)
	return w.Index, err
}
