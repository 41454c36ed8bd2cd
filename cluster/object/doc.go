// Package object is Berth's vocabulary: one struct per kind of thing a cluster
// holds, the Changeset by which anything is ever written, and the values that
// travel between people, masters and nodes (Plan, Forecast, Diagnostic, Error).
//
// It knows no storage, no network, no clock and no text format beyond the tags
// on its fields: package hcl fills the structs from configurations, cluster/state
// keeps them, cluster/api and cluster/client carry them as JSON, node/agent
// obeys them. The tags are the single source of the language: decoding,
// validation, the field diff, the reference table and the JSON schema all walk
// Fields.
package object
