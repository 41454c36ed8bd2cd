package clustertest

import (
	"net"
	"sync"
)

// listener knows its connections, so that a killed master can drop them without
// an answer, as a process that died does.
type listener struct {
	net.Listener
	mu   sync.Mutex
	dead bool
	open map[net.Conn]bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		c.Close()
		return nil, net.ErrClosed
	}
	k := &connection{Conn: c, of: l}
	l.open[k] = true
	return k, nil
}

func (l *listener) cut() {
	l.Listener.Close()
	l.mu.Lock()
	l.dead = true
	var all []net.Conn
	for c := range l.open {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

type connection struct {
	net.Conn
	of *listener
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
