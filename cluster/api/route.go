package api

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/berthdev/berth/cluster/object"
)

// need says which master may answer a route.
type need int

const (
	needAny    need = iota // any master, from what it knows
	needReads              // the leader, unless the client asks for ?stale=true
	needLeader             // the leader
	needView               // the leader while there is one, unless ?stale=true; else any master
)

// Body limits. A plan holds every object twice; archives are streamed.
const (
	smallBody = 1 << 20
	largeBody = 64 << 20
	planBody  = 1 << 30
	imageBody = 32 << 30
)

// access is what a route demands.
type access struct {
	public bool          // no identity at all is needed
	roles  []object.Role // who may, if not public
	leader need
	limit  int64 // of the body, bytes
	stream bool  // no deadline for body and answer
	enrols bool  // masters that are not members yet may use it
	direct bool  // not by way of another master: what counts is the certificate of who asks
}

var (
	onlyAdmin  = []object.Role{object.RoleAdmin}
	onlyNode   = []object.Role{object.RoleNode}
	onlyMaster = []object.Role{object.RoleMaster}
	planners   = []object.Role{object.RoleAdmin, object.RolePlanner}
	readers    = []object.Role{object.RoleAdmin, object.RolePlanner, object.RoleMaster}
	everyone   = []object.Role{object.RoleAdmin, object.RolePlanner, object.RoleMaster, object.RoleNode}
)

// nodeKinds are the kinds that every node may read: what it needs to find other
// nodes and services. Pods and contents it may read only where they are its own.
var nodeKinds = []object.Kind{object.KindNode, object.KindNetwork, object.KindService, object.KindEndpoints, object.KindIngress, object.KindPolicyRules}

// register makes every route. The authorization table of the whole API is what
// stands in the access values here and in objectRoutes.
func (s *Server) register() error {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Berth", Version: s.Version, Description: "The API of a Berth cluster's masters. Errors are {\"error\": {\"code\", \"message\", \"hint\", …}} throughout."},
			Components: &huma.Components{Schemas: registry{huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)}},
		},
		Formats:          map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:    "application/json",
		NoFormatFallback: false,
	}
	describeObjects(config.OpenAPI.Components.Schemas)
	s.doc = humago.New(s.mux, config)

	s.objectRoutes()
	typed(s, op("POST", "/v1/changesets", "Write a changeset, whole or not at all", "objects"), access{roles: onlyAdmin, leader: needLeader, limit: largeBody}, s.postChangeset)
	s.plain(op("GET", "/v1/watch", "Follow changes, one JSON object a line", "objects"), access{roles: everyone, stream: true}, s.watch)

	compare := op("POST", "/v1/stacks/{name}"+comparePath, "How the state differs from a stack's configuration", "plans")
	compare.Responses = answers(schemaBuilder{s.doc.OpenAPI().Components.Schemas}.of(reflect.TypeFor[object.StackState]()))
	compare.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemaBuilder{s.doc.OpenAPI().Components.Schemas}.of(reflect.TypeFor[object.StackRequest]())}}}
	typed(s, compare, access{roles: planners, leader: needReads, limit: planBody}, s.postCompare)
	typed(s, takesPlan[object.Plan](s, op("POST", "/v1/plan", "Rehearse and seal a plan", "plans")), access{roles: planners, leader: needLeader, limit: planBody}, s.postPlan)
	typed(s, takesPlan[object.ApplyRequest](s, op("POST", "/v1/apply", "Commit a sealed plan as the stack's next revision", "plans")), access{roles: onlyAdmin, leader: needLeader, limit: planBody}, s.postApply)
	typed(s, op("POST", "/v1/digests", "Keyed digests of plain values", "plans"), access{roles: planners, leader: needReads, limit: largeBody}, s.postDigests)

	typed(s, op("POST", "/v1/nodes/{name}/report", "What a node says of itself and its pods; its heartbeat", "nodes"), access{roles: onlyNode, leader: needLeader, limit: largeBody}, s.postReport)
	typed(s, op("GET", "/v1/contents/{namespace}/{name}/reveal", "A content in plain, for a node whose pods read it", "nodes"), access{roles: onlyNode, leader: needReads}, s.getReveal)
	typed(s, op("GET", "/v1/namespaces/{namespace}/pods/{name}/left", "Wait until no node sends anything new to a pod that stops", "nodes"), access{roles: onlyNode, leader: needLeader}, s.getLeft)
	typed(s, op("GET", "/v1/namespaces/{namespace}/ingresses/{name}/secrets", "The secrets of an ingress in plain, for a node that serves ingresses", "nodes"), access{roles: onlyNode, leader: needReads}, s.getIngressSecrets)
	s.plain(op("GET", "/v1/namespaces/{namespace}/pods/{name}/logs", "A pod's log", "nodes"), access{roles: planners, stream: true}, s.getLogs)
	s.plain(op("GET", "/v1/namespaces/{namespace}/pods/{name}/forward", "A stream to a port of a pod", "nodes"), access{roles: onlyAdmin, stream: true}, s.getForward)
	s.plain(op("POST", "/v1/images", "Give an OCI or docker archive to every ready node", "nodes"), access{roles: onlyAdmin, limit: imageBody, stream: true}, s.postImages)
	typed(s, op("POST", "/v1/images/resolve", "Which content tags stand for in the cluster", "nodes"), access{roles: planners, leader: needReads, limit: smallBody}, s.postResolve)
	s.plain(op("GET", "/v1/images", "The images on every ready node", "nodes"), access{roles: planners, stream: true}, s.getImages)

	typed(s, op("POST", "/v1/join", "Turn a token into a certificate", "identity"), access{public: true, leader: needLeader, limit: smallBody}, s.postJoin)
	typed(s, op("POST", "/v1/login", "Turn an identity token of a trusted issuer into a certificate", "identity"), access{public: true, leader: needLeader, limit: smallBody}, s.postLogin)
	typed(s, op("POST", "/v1/renew", "A new certificate of the same name and role", "identity"), access{roles: everyone, limit: smallBody, direct: true}, s.postRenew)
	typed(s, op("POST", "/v1/tokens", "Make a token", "identity"), access{roles: onlyAdmin, leader: needLeader, limit: smallBody}, s.postToken)

	typed(s, op("POST", "/v1/keyring/rotate", "Seal secrets by a new key from now on", "identity"), access{roles: onlyAdmin, leader: needLeader, limit: smallBody}, s.postRotation)
	s.plain(op("PUT", "/v1/keyring", "Take the leader's keys, between masters", "identity"), access{roles: onlyMaster, limit: smallBody}, s.putKeyring)

	typed(s, op("GET", "/v1/masters", "The masters", "cluster"), access{roles: readers, leader: needReads}, s.getMasters)
	typed(s, op("POST", "/v1/masters", "Become a member, for masters that have joined", "cluster"), access{roles: onlyMaster, leader: needLeader, limit: smallBody, enrols: true}, s.postMaster)
	typed(s, op("DELETE", "/v1/masters/{name}", "End a master's membership", "cluster"), access{roles: onlyAdmin, leader: needLeader}, s.deleteMaster)
	typed(s, op("GET", "/v1/status", "The cluster at a glance", "cluster"), access{roles: everyone, leader: needView}, s.getStatus)
	typed(s, op("GET", "/v1/index", "The index that a read has to have seen to be up to date", "cluster"), access{roles: readers, leader: needReads}, s.getIndex)
	s.plain(op("GET", "/v1/snapshot", "The whole state, secrets sealed", "cluster"), access{roles: onlyAdmin, leader: needReads, stream: true}, s.getSnapshot)
	s.plain(op("PUT", "/v1/snapshot", "Replace the whole state", "cluster"), access{roles: onlyAdmin, leader: needLeader, limit: imageBody, stream: true}, s.putSnapshot)
	s.plain(op("GET", "/healthz", "Whether this master serves and knows a leader", "cluster"), access{public: true}, s.getHealth)
	s.plain(op("GET", "/metrics", "Metrics in Prometheus' text format", "cluster"), access{roles: readers}, s.getMetrics)
	s.plain(op("GET", "/openapi.json", "This document", "cluster"), access{public: true}, s.getOpenAPI)

	var err error
	s.openapi, err = s.doc.OpenAPI().MarshalJSON()
	return err
}

func op(method, path, summary, tag string) huma.Operation {
	id := strings.ToLower(method) + strings.NewReplacer("/v1", "", "/", "-", "{", "", "}", "", ".", "-").Replace(path)
	return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag}}
}

// answer is the output of a typed route.
type answer[T any] struct{ Body T }

// typed adds a route whose handler takes and gives values. I is a struct of
// parameters and, for writes, a Body of type body[T].
func typed[I, O any](s *Server, o huma.Operation, a access, handle func(context.Context, *I) (*O, error)) {
	o.SkipValidateBody = true // body[T] does, with better words
	o.MaxBodyBytes = -1       // the access's limit holds
	o.BodyReadTimeout = -1    // the access's deadline holds
	if o.Responses == nil {
		o.Responses = map[string]*huma.Response{}
	}
	o.Responses["default"] = errorResponse
	pathParameters(&o, reflect.TypeFor[I]())
	s.allow(o, a)
	huma.Register(s.doc, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, fail(err)
		}
		return out, nil
	})
}

// pathParameters describes the parts of the path that huma does not find in the
// input itself.
func pathParameters(o *huma.Operation, input reflect.Type) {
	for p := range strings.SplitSeq(o.Path, "/") {
		name, ok := strings.CutPrefix(p, "{")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if input != nil && slices.ContainsFunc(reflect.VisibleFields(input), func(f reflect.StructField) bool { return f.Tag.Get("path") == name }) {
			continue
		}
		o.Parameters = append(o.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
	}
}

// plain adds a route that reads and writes by itself: streams.
func (s *Server) plain(o huma.Operation, a access, handle http.HandlerFunc) {
	o.Responses = map[string]*huma.Response{"200": {Description: "OK"}, "default": errorResponse}
	pathParameters(&o, nil)
	for _, name := range queries[o.Method+" "+o.Path] {
		o.Parameters = append(o.Parameters, &huma.Param{Name: name, In: "query", Schema: &huma.Schema{Type: "string"}})
	}
	s.allow(o, a)
	s.doc.OpenAPI().AddOperation(&o)
	s.mux.HandleFunc(o.Method+" "+o.Path, handle)
}

// queries are the parameters of the plain routes.
var queries = map[string][]string{
	"GET /v1/watch": {"kinds", "namespace", "name", "stack", "labels", "node", "since", "expand", "stale"},
	"GET /v1/namespaces/{namespace}/pods/{name}/forward": {"port"},
	"GET /v1/namespaces/{namespace}/pods/{name}/logs":    {"container", "follow", "tail", "previous", "since"},
}

func (s *Server) allow(o huma.Operation, a access) {
	if a.limit == 0 {
		a.limit = smallBody
	}
	s.routes[o.Method+" "+o.Path] = a
}

// Route is one line of the authorization table.
type Route struct {
	Method, Path string
	Public       bool
	Roles        []object.Role
}

// Routes lists every route with who may use it, ordered by path and method.
func (s *Server) Routes() []Route {
	var out []Route
	for p, a := range s.routes {
		method, path, _ := strings.Cut(p, " ")
		out = append(out, Route{Method: method, Path: path, Public: a.public, Roles: slices.Clone(a.roles)})
	}
	slices.SortFunc(out, func(a, b Route) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return out
}
