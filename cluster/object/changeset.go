package object

import (
	"fmt"
	"reflect"
	"time"
)

// Op is what a change does.
type Op string

// The three operations.
const (
	OpCreate Op = "create"
	OpUpdate Op = "update"
	OpDelete Op = "delete"
)

// Part is the half of an object that an update replaces. The halves have
// versions of their own, so that a node's report never fights a controller.
type Part string

// The parts. Spec includes the writable fields of Meta.
const (
	PartSpec   Part = "spec"
	PartStatus Part = "status"
)

// Change is one create, update or delete.
type Change struct {
	Op   Op   `json:"op"`
	Ref  Ref  `json:"ref"`
	Part Part `json:"part,omitempty"` // of an update; empty means spec
	// Prior is the version of the part that the author saw: Meta.Version or, for
	// PartStatus, Meta.StatusVersion. A delete gives Meta.Version. A create gives 0.
	Prior uint64 `json:"prior,omitempty"`
	// Created, if not 0, is the incarnation that the author saw (Meta.Created):
	// a status meant for a pod that has been replaced under its name is refused.
	Created uint64 `json:"created,omitempty"`
	Object  Any    `json:"object,omitzero"` // absent in a delete
}

// Expectation makes a changeset conditional on an object that it does not write:
// its Meta.Version must be Version; 0 means that it must not exist. A Ref without a
// name speaks of the whole kind: no object of it may be newer than Version.
type Expectation struct {
	Ref     Ref    `json:"ref"`
	Version uint64 `json:"version"`
}

// Changeset is the only way in which anything is ever written. It is applied
// whole or, when a Prior or an Expectation does not hold, refused whole with
// CodeConflict. Clocks are read by the proposer: Time is what Apply stamps.
type Changeset struct {
	Author  string        `json:"author"`           // who: "admin", "controller/deployment", "node/n1"
	Reason  string        `json:"reason,omitempty"` // why, for people
	Time    time.Time     `json:"time"`
	Expect  []Expectation `json:"expect,omitempty"`
	Changes []Change      `json:"changes"`
}

// Empty reports whether there is nothing to write.
func (c *Changeset) Empty() bool { return len(c.Changes) == 0 }

// Create adds a create.
func (c *Changeset) Create(o Object) {
	c.Changes = append(c.Changes, Change{Op: OpCreate, Ref: o.Ref(), Object: Any{o}})
}

// Update adds an update of Meta and Spec; seen is the object it was made from.
func (c *Changeset) Update(seen, o Object) {
	c.Changes = append(c.Changes, Change{Op: OpUpdate, Ref: o.Ref(), Part: PartSpec, Prior: seen.Head().Version, Created: seen.Head().Created, Object: Any{o}})
}

// UpdateStatus adds an update of Status; seen is the object it was made from. Of
// o only the status counts and travels.
func (c *Changeset) UpdateStatus(seen, o Object) { c.SetStatus(seen, o.StatusPtr()) }

// SetStatus is UpdateStatus with a pointer to the status alone.
func (c *Changeset) SetStatus(seen Object, status any) {
	m := seen.Head()
	bare, err := New(m.Kind)
	if err != nil {
		panic(fmt.Sprintf("object: a status of %s: %v", m.Ref(), err)) // objects are of known kinds
	}
	h := bare.Head()
	h.Kind, h.Namespace, h.Name = m.Kind, m.Namespace, m.Name
	if to := bare.StatusPtr(); to != nil && status != nil {
		reflect.ValueOf(to).Elem().Set(reflect.ValueOf(status).Elem())
	}
	c.Changes = append(c.Changes, Change{Op: OpUpdate, Ref: m.Ref(), Part: PartStatus, Prior: m.StatusVersion, Created: m.Created, Object: Any{bare}})
}

// Delete adds a delete of the object as it was seen.
func (c *Changeset) Delete(seen Object) {
	c.Changes = append(c.Changes, Change{Op: OpDelete, Ref: seen.Ref(), Prior: seen.Head().Version, Created: seen.Head().Created})
}
