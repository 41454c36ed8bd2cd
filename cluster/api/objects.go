package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// objectRoutes makes the same routes for every kind. Kinds that Berth itself
// writes can be read and deleted; tokens are made by POST /v1/tokens.
func (s *Server) objectRoutes() {
	for _, k := range object.Kinds() {
		read := readers
		switch {
		case k.Kind == object.KindToken:
			read = onlyAdmin
		case k.Kind == object.KindPod || slices.Contains(nodeKinds, k.Kind):
			read = everyone
		}
		schema := &huma.Schema{Ref: "#/components/schemas/" + schemaName(k.Kind)}
		page := &huma.Schema{Type: "object", Properties: map[string]*huma.Schema{
			"index": {Type: "integer", Format: "int64"},
			"items": {Type: "array", Items: schema},
		}}
		list := func(path, what string) {
			o := op(http.MethodGet, path, what, k.Plural)
			o.Responses = answers(page)
			typed(s, o, access{roles: read, leader: needReads}, func(ctx context.Context, in *listInput) (*listing, error) {
				return s.list(ctx, k, in)
			})
		}
		base := "/v1/" + k.Plural
		list(base, "List "+k.Plural)
		if k.Namespaced {
			base = "/v1/namespaces/{namespace}/" + k.Plural
			list(base, "List the "+k.Plural+" of a namespace")
		}
		one := base + "/{name}"
		single := func(method, path, what string, a access, handle func(context.Context, object.KindInfo, *objectInput) (*answer[json.RawMessage], error), body bool) {
			o := op(method, path, what, k.Plural)
			o.Responses = answers(schema)
			if method != http.MethodGet {
				o.Responses = answers(&huma.Schema{Type: "object", Properties: map[string]*huma.Schema{"index": {Type: "integer", Format: "int64"}, "object": schema}})
			}
			if !body {
				typed(s, o, a, func(ctx context.Context, in *addressInput) (*answer[json.RawMessage], error) {
					return handle(ctx, k, &objectInput{addressInput: *in})
				})
				return
			}
			o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
			typed(s, o, a, func(ctx context.Context, in *objectInput) (*answer[json.RawMessage], error) {
				return handle(ctx, k, in)
			})
		}
		article := "a " + strings.ReplaceAll(string(k.Kind), "_", " ")
		single(http.MethodGet, one, "Read "+article, access{roles: read, leader: needReads}, s.getObject, false)
		single(http.MethodDelete, one, "Delete "+article, access{roles: onlyAdmin, leader: needLeader}, s.deleteObject, false)
		if k.Declared {
			single(http.MethodPost, base, "Create "+article, access{roles: onlyAdmin, leader: needLeader, limit: largeBody}, s.createObject, true)
			single(http.MethodPut, one, "Create or replace "+article, access{roles: onlyAdmin, leader: needLeader, limit: largeBody}, s.putObject, true)
		}
	}
}

// Selection is the query by which listings and watches are narrowed.
type Selection struct {
	Stack  string `query:"stack" doc:"Objects of this stack."`
	Labels string `query:"labels" doc:"Objects that carry all these labels: k=v,k=v."`
	Node   string `query:"node" doc:"Pods bound to this node."`
	Expand string `query:"expand" enum:"true,false" default:"true" doc:"false: pods, sets and deployments without their templates, revisions without the objects that they change."`
}

// place is where the address of a request points; kinds without a namespace share
// the handlers of those with one.
type place struct{ Namespace, Name string }

// Resolve takes the parts of the path that there are.
func (p *place) Resolve(c huma.Context) []error {
	p.Namespace, p.Name = c.Param("namespace"), c.Param("name")
	return nil
}

type listInput struct {
	place
	Selection
	Stale bool `query:"stale" doc:"Answer with what this master knows, which may be behind."`
}

type addressInput struct {
	place
	Stale   bool   `query:"stale" doc:"Of a GET: answer with what this master knows, which may be behind."`
	Version uint64 `query:"version" doc:"Of a DELETE: only if meta.version is still this."`
}

type objectInput struct {
	addressInput
	RawBody []byte
}

// predicate says which objects an identity that asks for a selection sees.
func (sel Selection) predicate(who Identity) (func(object.Object) bool, error) {
	labels := map[string]string{}
	for kv := range strings.SplitSeq(sel.Labels, ",") {
		if kv == "" {
			continue
		}
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, &object.Error{Code: object.CodeInvalid, Message: "labels: " + kv + " is not key=value"}
		}
		labels[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	if who.Role == object.RoleNode && sel.Node != "" && sel.Node != who.Name {
		return nil, &object.Error{Code: object.CodeForbidden, Message: "node " + who.Name + " may see only its own pods, not those of " + sel.Node}
	}
	return func(o object.Object) bool {
		m := o.Head()
		if p, ok := o.(*object.Pod); ok {
			if sel.Node != "" && p.Spec.Node != sel.Node || who.Role == object.RoleNode && p.Spec.Node != who.Name {
				return false
			}
		}
		return (sel.Stack == "" || m.Stack == sel.Stack) && object.HasLabels(m.Labels, labels)
	}, nil
}

// present is an object as it goes out: pods whole unless rows are asked for,
// nothing that the identity may not see.
func (sel Selection) present(who Identity, v *state.Snapshot, o object.Object) object.Object {
	if sel.Expand == "false" {
		return show(who, row(o))
	}
	if p, ok := o.(*object.Pod); ok {
		return v.Expand(p)
	}
	return show(who, o)
}

// row is what of an object changes as time goes on: who follows a rollout of ten
// thousand objects is not sent each again and again.
func row(o object.Object) object.Object {
	switch x := o.(type) {
	case *object.Deployment:
		c := *x
		c.Spec.Pod = object.PodTemplate{}
		return &c
	case *object.ReplicaSet:
		c := *x
		c.Spec.Pod = object.PodTemplate{}
		return &c
	case *object.Revision:
		c := *x
		c.Spec.Changes = slices.Clone(x.Spec.Changes)
		for i := range c.Spec.Changes {
			c.Spec.Changes[i].Before, c.Spec.Changes[i].After = object.Any{}, object.Any{}
		}
		return &c
	}
	return o
}

// listing is a page as bytes, which nobody encodes again.
type listing struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// list writes a page object by object: as one value each would be encoded, copied
// and checked three times over, and there may be a hundred thousand.
func (s *Server) list(ctx context.Context, k object.KindInfo, in *listInput) (*listing, error) {
	who, v := identityOf(ctx), s.Cluster.Snapshot()
	match, err := in.predicate(who)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, `{"index":%d,"items":[`, v.Index())
	e, n := json.NewEncoder(&page), 0
	add := func(o object.Object) error {
		if n++; n > 1 {
			page.WriteByte(',')
		}
		return e.Encode(in.present(who, v, o))
	}
	if k.Kind == object.KindPod && (in.Node != "" || who.Role == object.RoleNode) {
		node := in.Node
		if node == "" {
			node = who.Name
		}
		for p := range v.PodsOn(node) { // the index, not every pod of the cluster
			if (in.Namespace == "" || p.Namespace == in.Namespace) && match(p) {
				if err := add(p); err != nil {
					return nil, err
				}
			}
		}
	} else {
		for o := range v.List(k.Kind, state.InNamespace(in.Namespace), state.Matching(match)) {
			if err := add(o); err != nil {
				return nil, err
			}
		}
	}
	page.WriteString("]}\n")
	return &listing{ContentType: "application/json", Body: page.Bytes()}, nil
}

func encode(v any) (*answer[json.RawMessage], error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &answer[json.RawMessage]{Body: b}, nil
}

func (in *addressInput) ref(k object.KindInfo) object.Ref {
	return object.Ref{Kind: k.Kind, Namespace: in.Namespace, Name: in.Name}
}

func (s *Server) getObject(ctx context.Context, k object.KindInfo, in *objectInput) (*answer[json.RawMessage], error) {
	who, v, r := identityOf(ctx), s.Cluster.Snapshot(), in.ref(k)
	o, ok := v.Get(r)
	if p, isPod := o.(*object.Pod); isPod && who.Role == object.RoleNode && p.Spec.Node != who.Name {
		ok = false // a node does not even learn that it exists
	}
	if !ok {
		return nil, notFound(v, r)
	}
	return encode(object.Any{Object: Selection{}.present(who, v, o)})
}

// notFound suggests the nearest name of the kind in the namespace.
func notFound(v *state.Snapshot, r object.Ref) error {
	var names []string
	for o := range v.List(r.Kind, state.InNamespace(r.Namespace)) {
		names = append(names, o.Head().Name)
		if len(names) == 1000 { // a hint is not worth more
			break
		}
	}
	e := object.Errorf(object.CodeNotFound, r, "does not exist")
	e.Hint = object.DidYouMean(r.Name, names)
	return e
}

func (s *Server) createObject(ctx context.Context, k object.KindInfo, in *objectInput) (*answer[json.RawMessage], error) {
	o, err := decodeObject(in.RawBody, in.ref(k))
	if err != nil {
		return nil, err
	}
	return s.write(ctx, o.Ref(), "created through the API", func(v *state.Snapshot, c *object.Changeset) error {
		if was, ok := v.Get(o.Ref()); ok {
			m := was.Head()
			return &object.Error{Code: object.CodeExists, Ref: o.Ref(), Message: "exists already", Hint: "PUT replaces it.", By: m.ChangedBy, At: m.ChangedAt}
		}
		return s.put(v, c, nil, o)
	})
}

func (s *Server) putObject(ctx context.Context, k object.KindInfo, in *objectInput) (*answer[json.RawMessage], error) {
	o, err := decodeObject(in.RawBody, in.ref(k))
	if err != nil {
		return nil, err
	}
	seen := o.Head().Version
	return s.write(ctx, o.Ref(), "changed through the API", func(v *state.Snapshot, c *object.Changeset) error {
		was, ok := v.Get(o.Ref())
		switch {
		case !ok && seen != 0:
			return object.Errorf(object.CodeConflict, o.Ref(), "was deleted in the meantime")
		case !ok:
			return s.put(v, c, nil, o)
		case seen != 0 && was.Head().Version != seen:
			m := was.Head()
			e := object.Errorf(object.CodeConflict, o.Ref(), "was changed by %s in the meantime (version %d, not %d)", m.ChangedBy, m.Version, seen)
			e.By, e.At, e.Hint = m.ChangedBy, m.ChangedAt, "Read it again and repeat the change."
			return e
		}
		c.Reason = object.Way(was, o)
		return s.put(v, c, was, o)
	})
}

func (s *Server) deleteObject(ctx context.Context, k object.KindInfo, in *objectInput) (*answer[json.RawMessage], error) {
	r := in.ref(k)
	return s.write(ctx, r, "deleted through the API", func(v *state.Snapshot, c *object.Changeset) error {
		was, ok := v.Get(r)
		if !ok {
			return notFound(v, r)
		}
		m := was.Head()
		if in.Version != 0 && m.Version != in.Version {
			e := object.Errorf(object.CodeConflict, r, "was changed by %s in the meantime (version %d, not %d)", m.ChangedBy, m.Version, in.Version)
			e.By, e.At = m.ChangedBy, m.ChangedAt
			return e
		}
		if m.PreventDestroy {
			e := object.Errorf(object.CodeForbidden, r, "is protected by prevent_destroy")
			e.Hint = "Take prevent_destroy out of its configuration and apply, then delete it."
			return e
		}
		if err := mayGo(r); err != nil {
			return err
		}
		c.Delete(was)
		if k.Kind == object.KindNode {
			s.revoke(v, c, r.Name)
		}
		return nil
	})
}
