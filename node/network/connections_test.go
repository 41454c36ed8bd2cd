package network

import (
	"net"
	"testing"
)

// Who is connected to a server counts, also before it is accepted, until it closes;
// what a namespace does inside itself does not.
func TestConnections(t *testing.T) {
	l := newLab(t)
	server, client := l.nodes["n1"], l.nodes["n2"]
	count := func() int {
		t.Helper()
		n, err := Connections(server.path)
		l.must(err)
		return n
	}
	var listener net.Listener
	within(t, server.path, func() (err error) {
		listener, err = net.Listen("tcp4", "192.0.2.11:8080")
		return err
	})
	defer listener.Close()
	if n := count(); n != 0 {
		t.Fatalf("%d connections before anybody has come", n)
	}
	dial := func(path, address string) net.Conn {
		t.Helper()
		var c net.Conn
		within(t, path, func() (err error) {
			c, err = net.Dial("tcp4", address)
			return err
		})
		return c
	}
	first, second := dial(client.path, "192.0.2.11:8080"), dial(client.path, "192.0.2.11:8080")
	if n := count(); n != 2 {
		t.Errorf("%d connections that wait to be accepted, want 2", n)
	}
	for _, c := range []net.Conn{first, second} {
		accepted, err := listener.Accept()
		l.must(err)
		l.must(c.Close())
		l.must(accepted.Close())
	}
	if n := count(); n != 0 {
		t.Errorf("%d connections after all have gone", n)
	}
	var inner net.Listener
	within(t, server.path, func() (err error) {
		inner, err = net.Listen("tcp4", "127.0.0.1:9090")
		return err
	})
	defer inner.Close()
	defer dial(server.path, "127.0.0.1:9090").Close()
	if n := count(); n != 0 {
		t.Errorf("%d connections, but the pod only speaks to itself", n)
	}
}
