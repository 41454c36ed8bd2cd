// Package seal keeps secrets secret: it encrypts values before they enter the
// Raft log, digests them so that equal values can be told without showing them,
// and signs plans so that nobody can edit one.
//
// Every value is encrypted under a data key of its own, that key under the
// keyring's, and both are bound to the secret and key they belong to, so that a
// ciphertext moved elsewhere does not open. The keyring lives in a file on each
// master and never in Raft. The package is called before proposing and after
// reading, never by the FSM, for it is not deterministic.
package seal
