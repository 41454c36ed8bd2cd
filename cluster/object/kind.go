package object

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Kind names a kind of object, in the singular snake case that HCL blocks use.
type Kind string

// The kinds of this version. Those that people declare in HCL come first.
const (
	KindNamespace  Kind = "namespace"
	KindPod        Kind = "pod"
	KindReplicaSet Kind = "replica_set"
	KindDeployment Kind = "deployment"
	KindConfigMap  Kind = "config_map"
	KindSecret     Kind = "secret"
	KindService    Kind = "service"
	KindNode       Kind = "node"
	KindNetwork    Kind = "network"
	KindIngress    Kind = "ingress"

	KindNetworkPolicy Kind = "network_policy"

	KindPolicy           Kind = "policy"
	KindFreeze           Kind = "freeze"
	KindIdentityProvider Kind = "identity_provider"

	KindTemplate    Kind = "template"     // an immutable pod template, named by its digest
	KindContent     Kind = "content"      // an immutable version of a config map or secret
	KindEndpoints   Kind = "endpoints"    // the ready pods behind a service
	KindPolicyRules Kind = "policy_rules" // a network policy with its selectors resolved
	KindStack       Kind = "stack"        // one configuration directory
	KindRevision    Kind = "revision"     // one apply of a stack
	KindEvent       Kind = "event"        // something worth telling a person
	KindToken       Kind = "token"        // a join or client token (its digest only)
)

// KindInfo describes a kind to generic code.
type KindInfo struct {
	Kind       Kind
	Plural     string // the path segment of the API and a spelling the CLI accepts
	Short      string // the abbreviation that the CLI accepts, may be empty
	Namespaced bool
	Declared   bool // people may write it in HCL
	Doc        string
	New        func() Object // a fresh zero object with Meta.Kind set
}

// SpecType is the struct type of the kind's Spec.
func (k KindInfo) SpecType() reflect.Type {
	return reflect.TypeOf(k.New().SpecPtr()).Elem()
}

var kinds = []KindInfo{
	{Kind: KindNamespace, Plural: "namespaces", Short: "ns", Declared: true, New: func() Object { return &Namespace{Meta: Meta{Kind: KindNamespace}} },
		Doc: "A room of its own for names, quotas and rights."},
	{Kind: KindNode, Plural: "nodes", Short: "no", Declared: true, New: func() Object { return &Node{Meta: Meta{Kind: KindNode}} },
		Doc: "A machine that runs pods. It registers itself; a configuration may adopt its labels and taints."},
	{Kind: KindNetwork, Plural: "networks", Declared: true, New: func() Object { return &Network{Meta: Meta{Kind: KindNetwork}} },
		Doc: "The network of pods and services. A cluster has one, named \"cluster\"; a configuration may adopt it."},
	{Kind: KindConfigMap, Plural: "config_maps", Short: "cm", Namespaced: true, Declared: true, New: func() Object { return &ConfigMap{Meta: Meta{Kind: KindConfigMap}} },
		Doc: "Configuration that pods read as files or environment, versioned by content."},
	{Kind: KindSecret, Plural: "secrets", Namespaced: true, Declared: true, New: func() Object { return &Secret{Meta: Meta{Kind: KindSecret}} },
		Doc: "Like a config_map, encrypted on the masters and held only in memory on nodes."},
	{Kind: KindPod, Plural: "pods", Short: "po", Namespaced: true, Declared: true, New: func() Object { return &Pod{Meta: Meta{Kind: KindPod}} },
		Doc: "Containers that share an address, localhost and volumes on one node."},
	{Kind: KindReplicaSet, Plural: "replica_sets", Short: "rs", Namespaced: true, Declared: true, New: func() Object { return &ReplicaSet{Meta: Meta{Kind: KindReplicaSet}} },
		Doc: "Keeps a number of equal pods running."},
	{Kind: KindDeployment, Plural: "deployments", Short: "deploy", Namespaced: true, Declared: true, New: func() Object { return &Deployment{Meta: Meta{Kind: KindDeployment}} },
		Doc: "A replica_set that changes version step by step, or goes back."},
	{Kind: KindService, Plural: "services", Short: "svc", Namespaced: true, Declared: true, New: func() Object { return &Service{Meta: Meta{Kind: KindService}} },
		Doc: "One name and address for the ready pods that a selector picks."},
	{Kind: KindIngress, Plural: "ingresses", Short: "ing", Namespaced: true, Declared: true, New: func() Object { return &Ingress{Meta: Meta{Kind: KindIngress}} },
		Doc: "The way in from outside for a host: paths, certificates, limits, weights."},
	{Kind: KindNetworkPolicy, Plural: "network_policies", Short: "netpol", Namespaced: true, Declared: true, New: func() Object { return &NetworkPolicy{Meta: Meta{Kind: KindNetworkPolicy}} },
		Doc: "Which packets may reach pods, and where pods may send theirs."},
	{Kind: KindPolicy, Plural: "policies", Short: "pol", Declared: true, New: func() Object { return &Policy{Meta: Meta{Kind: KindPolicy}} },
		Doc: "Rules about what may be written to the cluster, by which the masters judge every plan and every other write."},
	{Kind: KindFreeze, Plural: "freezes", Declared: true, New: func() Object { return &Freeze{Meta: Meta{Kind: KindFreeze}} },
		Doc: "A window in time in which people change nothing in some namespaces, or in the whole cluster."},
	{Kind: KindIdentityProvider, Plural: "identity_providers", Short: "idp", Declared: true, New: func() Object { return &IdentityProvider{Meta: Meta{Kind: KindIdentityProvider}} },
		Doc: "An issuer of identity tokens, such as a CI system, whose jobs may log in without a stored secret."},
	{Kind: KindTemplate, Plural: "templates", Namespaced: true, New: func() Object { return &Template{Meta: Meta{Kind: KindTemplate}} },
		Doc: "An immutable pod template, named by its digest and shared by its pods."},
	{Kind: KindContent, Plural: "contents", Namespaced: true, New: func() Object { return &Content{Meta: Meta{Kind: KindContent}} },
		Doc: "An immutable version of a config_map or secret."},
	{Kind: KindEndpoints, Plural: "endpoints", Short: "ep", Namespaced: true, New: func() Object { return &Endpoints{Meta: Meta{Kind: KindEndpoints}} },
		Doc: "The ready pods behind a service."},
	{Kind: KindPolicyRules, Plural: "policy_rules", Namespaced: true, New: func() Object { return &PolicyRules{Meta: Meta{Kind: KindPolicyRules}} },
		Doc: "A network policy with its selectors resolved to addresses."},
	{Kind: KindStack, Plural: "stacks", New: func() Object { return &Stack{Meta: Meta{Kind: KindStack}} },
		Doc: "One configuration directory; it owns the objects that it made."},
	{Kind: KindRevision, Plural: "revisions", Short: "rev", New: func() Object { return &Revision{Meta: Meta{Kind: KindRevision}} },
		Doc: "One apply of a stack: what was meant, by whom, and how far it came."},
	{Kind: KindEvent, Plural: "events", Short: "ev", Namespaced: true, New: func() Object { return &Event{Meta: Meta{Kind: KindEvent}} },
		Doc: "Something that happened and is worth telling a person."},
	{Kind: KindToken, Plural: "tokens", New: func() Object { return &Token{Meta: Meta{Kind: KindToken}} },
		Doc: "A token by which a master, node or client joins; only its digest is kept."},
}

var kindIndex = func() map[Kind]int {
	m := make(map[Kind]int, len(kinds))
	for i, k := range kinds {
		m[k.Kind] = i
	}
	return m
}()

// Kinds lists every kind in a fixed order in which none refers to a later one.
func Kinds() []KindInfo { return slices.Clone(kinds) }

// Info returns the description of a kind and whether it exists.
func Info(k Kind) (KindInfo, bool) {
	i, ok := kindIndex[k]
	if !ok {
		return KindInfo{}, false
	}
	return kinds[i], true
}

// New returns an empty object of the kind; it is an error of the caller to ask
// for a kind that does not exist, so decoders check with Info first.
func New(k Kind) (Object, error) {
	info, ok := Info(k)
	if !ok {
		return nil, Errorf(CodeInvalid, Ref{Kind: k}, "there is no kind %q", k)
	}
	return info.New(), nil
}

// ParseKind accepts a kind in the singular, the plural, or its abbreviation,
// with either underscores or hyphens, as people type it.
func ParseKind(s string) (Kind, error) {
	s = strings.ReplaceAll(strings.ToLower(s), "-", "_")
	for _, k := range kinds {
		if s == string(k.Kind) || s == k.Plural || (k.Short != "" && s == k.Short) ||
			s == strings.ReplaceAll(string(k.Kind), "_", "") || s == strings.ReplaceAll(k.Plural, "_", "") {
			return k.Kind, nil
		}
	}
	names := make([]string, 0, 2*len(kinds))
	for _, k := range kinds {
		names = append(names, string(k.Kind), k.Plural)
	}
	return "", &Error{Code: CodeInvalid, Message: fmt.Sprintf("there is no kind %q", s), Hint: DidYouMean(s, names)}
}
