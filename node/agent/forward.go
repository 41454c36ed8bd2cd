package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// dialTime is how long a pod may take to accept a connection.
const dialTime = 5 * time.Second

// serveForward turns the connection into a stream to a port of a pod, until either
// side has had enough.
func (a *Agent) serveForward(w http.ResponseWriter, r *http.Request) {
	ref := object.Ref{Kind: object.KindPod, Namespace: r.PathValue("namespace"), Name: r.PathValue("pod")}
	port, err := strconv.Atoi(r.URL.Query().Get("port"))
	if err != nil || port < 1 || port > 65535 {
		fail(w, object.Errorf(object.CodeInvalid, ref, "port=%s is not a port; ports are 1 to 65535", r.URL.Query().Get("port")))
		return
	}
	a.mu.Lock()
	worker := a.workers[ref]
	a.mu.Unlock()
	if worker == nil {
		fail(w, object.Errorf(object.CodeNotFound, ref, "is not on this node"))
		return
	}
	address := worker.current().Address
	if address == "" {
		fail(w, object.Errorf(object.CodeUnavailable, ref, "has no address yet"))
		return
	}
	pod, err := (&net.Dialer{Timeout: dialTime}).DialContext(r.Context(), "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		e := object.Errorf(object.CodeUnavailable, ref, "port %d cannot be connected to: %w", port, err)
		e.Hint = "Does a container listen there, and not on 127.0.0.1 alone?"
		fail(w, e)
		return
	}
	defer pod.Close()
	client, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, object.Errorf(object.CodeInternal, ref, "the connection cannot be taken over: %w", err))
		return
	}
	defer client.Close()
	_ = client.SetDeadline(time.Time{}) // a stream lasts as long as it is wanted
	if _, err := fmt.Fprintf(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", object.ForwardProtocol); err != nil {
		return
	}
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(pod, rest) // what came with the request first
		var half *net.TCPConn
		if t, ok := pod.(*net.TCPConn); ok {
			half = t
		}
		if half != nil && err == nil {
			err = half.CloseWrite()
		}
		done <- err
	}()
	go func() {
		_, err := io.Copy(client, pod)
		done <- errors.Join(err, io.EOF) // the pod has said all: that ends it
	}()
	for range 2 {
		if err := <-done; err != nil {
			return
		}
	}
}
