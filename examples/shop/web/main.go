// Command web is the demo shop: one small program that serves the front end and
// the stock service behind it, so that the demo needs no registry. It is built
// without cgo and packed into an image by `berth image pack`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// version and broken are set by the linker: the demo packs versions 1, 2 and a
// 3 that ends as soon as it has started.
var (
	version = "dev"
	broken  = ""
)

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 && os.Args[1] == "check" {
		check()
		return
	}
	role := "web"
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	host, _ := os.Hostname()
	log.Printf("%s version %s starting as %s", role, version, host)
	if broken != "" {
		log.Print("reading /data/prices.db")
		log.Fatal("fatal: prices.db: schema 7 expected, 6 found")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var served atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		greeting := "Welcome to the shop."
		if b, err := os.ReadFile("/etc/shop/greeting.txt"); err == nil {
			greeting = strings.TrimSpace(string(b))
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"role": role, "version": version, "pod": host, "greeting": greeting,
			"served": served.Add(1), "password_set": os.Getenv("DB_PASSWORD") != "",
		})
		log.Printf("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		log.Print("stopping")
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// check is the init container: it looks whether its configuration is complete.
func check() {
	for _, f := range os.Args[2:] {
		if _, err := os.Stat(f); err != nil {
			log.Fatalf("check: %v", err)
		}
		log.Printf("check: %s is there", f)
	}
}
