// Package pki is who is who: the cluster's certificate authority, the
// certificates that it issues, the tokens by which machines and people come to
// one, and the TLS configurations made of them.
//
// A certificate's common name is a name, its organization the role. The issuer
// sets both; who asks gives only a public key and addresses. A token pins the
// authority by the hash of its public key, so that the very first connection is
// already safe. The package knows neither objects nor HTTP: cluster/api decides
// who gets a certificate, cluster/master and node/agent keep theirs on disk
// through Identity, which renews it while everything runs.
package pki
