package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// load sends requests at a steady rate and counts those that were lost: that got
// no answer, or another than 200. It prints how far it is every second, and the
// whole as JSON at the end.
//
//	web load [-rate N] [-requests N] [-keepalive] [-clients N] [-host NAME] URL
func load(ctx context.Context, args []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	rate := flags.Int("rate", 2000, "requests a second")
	requests := flags.Int("requests", 50000, "requests in all")
	clients := flags.Int("clients", 64, "requests under way at most")
	keepalive := flags.Bool("keepalive", false, "use connections more than once")
	host := flags.String("host", "", "Host header")
	_ = flags.Parse(args) // ends the program itself
	if flags.NArg() != 1 {
		log.Fatal("usage: web load [flags] URL")
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: !*keepalive, MaxIdleConnsPerHost: *clients, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}
	var sent, lost atomic.Int64
	var mu sync.Mutex
	pods, errs := map[string]int{}, []string{}
	one := func() error {
		r, err := http.NewRequest(http.MethodGet, flags.Arg(0), nil)
		if err != nil {
			return err
		}
		r.Host = *host
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", answer.Status, b)
		}
		var from struct {
			Pod string `json:"pod"`
		}
		if err == nil {
			err = json.Unmarshal(b, &from)
		}
		mu.Lock()
		pods[from.Pod]++
		mu.Unlock()
		return err
	}
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range *clients {
		wg.Go(func() {
			for range work {
				if err := one(); err != nil {
					lost.Add(1)
					mu.Lock()
					if len(errs) < 10 {
						errs = append(errs, time.Now().Format("15:04:05.000 ")+err.Error())
					}
					mu.Unlock()
				}
				sent.Add(1)
			}
		})
	}
	began := time.Now()
	tell := time.NewTicker(time.Second)
	defer tell.Stop()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
send:
	for given := 0; given < *requests; {
		select {
		case <-ctx.Done():
			break send
		case <-tell.C:
			fmt.Fprintf(os.Stderr, "%d sent, %d lost\n", sent.Load(), lost.Load())
		case <-pace.C:
			for due := min(*requests, int(time.Since(began).Seconds()*float64(*rate))); given < due; given++ {
				work <- struct{}{}
			}
		}
	}
	close(work)
	wg.Wait()
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"sent": sent.Load(), "lost": lost.Load(), "seconds": time.Since(began).Seconds(), "errors": errs, "pods": pods})
	if lost.Load() > 0 {
		os.Exit(1)
	}
}
