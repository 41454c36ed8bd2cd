// Command web is the demo shop: one small program that serves the front end and
// the stock service behind it, so that the demo needs no registry, and whatever
// else the examples need: a proxy, a program that follows a log, a load. It is
// built without cgo and packed into an image by `berth image pack`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// version, broken and abrupt are set by the linker: the demo packs versions 1, 2
// and a 3 that ends as soon as it has started. An abrupt one does not finish what
// it is answering when it is told to stop.
var (
	version = "dev"
	broken  = ""
	abrupt  = ""
)

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 {
		if run, ok := map[string]func(context.Context, []string){"check": check, "load": load, "proxy": proxy, "tail": tail}[os.Args[1]]; ok {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			run(ctx, os.Args[2:])
			return
		}
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
	access := accessLog()
	var served atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if role == "flaky" { // well enough for a probe, but not for anybody else
			http.Error(w, "the prices cannot be read", http.StatusInternalServerError)
			return
		}
		greeting := "Welcome to the shop."
		if b, err := os.ReadFile("/etc/shop/greeting.txt"); err == nil {
			greeting = strings.TrimSpace(string(b))
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"role": role, "version": version, "pod": host, "greeting": greeting,
			"served": served.Add(1), "password_set": os.Getenv("DB_PASSWORD") != "",
		})
		access.Printf("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
	})
	mux.HandleFunc("GET /stock", stock)
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		log.Print("stopping")
		if abrupt != "" {
			os.Exit(0)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // what is still open then is cut
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// stock asks the service behind the front end, by its name: $STOCK.
func stock(w http.ResponseWriter, r *http.Request) {
	q, err := http.NewRequestWithContext(r.Context(), http.MethodGet, os.Getenv("STOCK"), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // whoever asked has gone
}

// accessLog is standard error, or the file $ACCESS_LOG for a sidecar to read.
func accessLog() *log.Logger {
	file := os.Getenv("ACCESS_LOG")
	if file == "" {
		return log.Default()
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	return log.New(f, "", log.LstdFlags)
}

// check is the init container: it looks whether its configuration is complete.
func check(_ context.Context, files []string) {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			log.Fatalf("check: %v", err)
		}
		log.Printf("check: %s is there", f)
	}
}

// proxy passes requests on: proxy LISTEN TARGET.
func proxy(ctx context.Context, args []string) {
	if len(args) != 2 {
		log.Fatal("usage: web proxy LISTEN TARGET")
	}
	target, err := url.Parse(args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("proxy at %s for %s", args[0], target)
	server := &http.Server{Addr: args[0], ReadHeaderTimeout: 5 * time.Second, Handler: &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.SetXForwarded()
		log.Printf("%s %s", p.In.Method, p.In.URL.Path)
	}}}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// tail writes what is appended to a file: tail FILE.
func tail(ctx context.Context, args []string) {
	if len(args) != 1 {
		log.Fatal("usage: web tail FILE")
	}
	var f *os.File
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		if f == nil {
			f, _ = os.Open(args[0]) // it may not be there yet
		}
		if f != nil {
			_, _ = io.Copy(os.Stdout, f) // tried again in a moment
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
