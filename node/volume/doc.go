// Package volume makes the directories that a pod's containers mount: config
// maps and secrets as files, empty directories, paths of the host. They live
// below one directory of the node, one subdirectory per pod; secrets only ever in
// memory (tmpfs). What is on disk is the only state, so that a restarted process
// finds what its predecessor made.
//
// It knows neither masters nor containers: file contents are handed in, paths
// are handed out.
package volume
