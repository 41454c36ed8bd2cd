package proxy

import (
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// serviceCrowd is n services of ten endpoints each, at addresses that nobody has.
func serviceCrowd(n int) (services []*object.Service, endpoints []*object.Endpoints) {
	for i := range n {
		name := fmt.Sprintf("s%05d", i)
		services = append(services, newService(name, fmt.Sprintf("10.79.%d.%d", (i+2)/256, (i+2)%256), portHTTP))
		eps := newEndpoints(name)
		for j := range 10 {
			eps.Spec.Ready = append(eps.Spec.Ready, endpoint(fmt.Sprintf("%s-%d", name, j), "n"+strconv.Itoa(2+j), fmt.Sprintf("10.77.%d.%d", 10+i*10/250, 2+(i*10+j)%250), numbers))
		}
		endpoints = append(endpoints, eps)
	}
	return services, endpoints
}

// BenchmarkServicesSync is the first Apply of a node that has no rules.
func BenchmarkServicesSync(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run("services="+strconv.Itoa(n), func(b *testing.B) {
			s := newSite(b)
			services, endpoints := serviceCrowd(n)
			worked := 0.0
			for b.Loop() {
				before := cpu(b)
				s.apply(b, services, endpoints)
				b.StopTimer()
				worked += cpu(b) - before
				if err := s.services.Purge(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(worked/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkServicesRestart is the first Apply of a process that finds all rules right.
func BenchmarkServicesRestart(b *testing.B) {
	s := newSite(b)
	services, endpoints := serviceCrowd(5000)
	s.apply(b, services, endpoints)
	for b.Loop() {
		s.services = newServices()
		s.apply(b, services, endpoints)
	}
}

// changeOne makes the n-th change: a pod of one service leaves, then comes back.
func changeOne(n int, all, endpoints []*object.Endpoints) {
	i := n / 2 * 7 % len(all)
	endpoints[i] = newEndpoints(all[i].Name, all[i].Spec.Ready[1-n%2:]...)
}

// BenchmarkServicesChange is a pod that comes or goes in one service of 5,000.
func BenchmarkServicesChange(b *testing.B) {
	s := newSite(b)
	services, endpoints := serviceCrowd(5000)
	s.apply(b, services, endpoints)
	all := slices.Clone(endpoints)
	n, before := 0, cpu(b)
	for b.Loop() {
		changeOne(n, all, endpoints)
		n++
		s.apply(b, services, endpoints)
	}
	b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-ms/op")
}

// BenchmarkServicesEnsure looks after 5,000 services that nobody has touched, and
// after a change by somebody else, which means reading all.
func BenchmarkServicesEnsure(b *testing.B) {
	s := newSite(b)
	s.apply(b, nil, nil)
	services, endpoints := serviceCrowd(5000)
	s.apply(b, services, endpoints)
	for _, c := range []struct {
		name   string
		forget bool
	}{{"quiet", false}, {"read", true}} {
		b.Run(c.name, func(b *testing.B) {
			if _, err := s.services.Ensure(b.Context()); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if c.forget {
					s.services.known, s.services.rest = false, 0
				}
				if mended, err := s.services.Ensure(b.Context()); err != nil || len(mended) > 0 {
					b.Fatal(mended, err)
				}
			}
		})
	}
}

// BenchmarkServicesConnect opens connections from a pod to another node's pod: at
// its own address, and through one service among 10 and among 5,000, in turn, so
// that a noisy machine is equally noisy to each. The figures are medians; worst is the
// slowest of the first, a middle and the last service.
func BenchmarkServicesConnect(b *testing.B) {
	s := newSite(b)
	var l net.Listener
	var err error
	s.far.do(func() { l, err = net.Listen("tcp", "10.77.2.2:8080") })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	services, endpoints := serviceCrowd(5000)
	for _, i := range []int{0, 5, 2500, 4999} { // the pods behind these are the one that answers
		for j := range endpoints[i].Spec.Ready {
			e := &endpoints[i].Spec.Ready[j]
			e.Address = "10.77.2.2"
		}
	}
	connect := func(addr string) error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		_ = c.(*net.TCPConn).SetLinger(0) // no port stays taken
		return c.Close()
	}
	const rounds = 2000
	measure := func(b *testing.B, targets map[string]string) map[string]float64 {
		names := slices.Sorted(maps.Keys(targets))
		all, took := map[string][]float64{}, map[string]float64{}
		s.pods[0].do(func() {
			for range rounds {
				for _, n := range names {
					start := time.Now()
					if err := connect(targets[n]); err != nil {
						b.Error(n, err)
						return
					}
					all[n] = append(all[n], float64(time.Since(start)))
				}
			}
		})
		for n, times := range all {
			slices.Sort(times)
			took[n] = times[len(times)/2]
		}
		return took
	}
	direct := "10.77.2.2:8080"
	first, middle, last := "10.79.0.7:80", "10.79."+strconv.Itoa(2502/256)+"."+strconv.Itoa(2502%256)+":80", "10.79."+strconv.Itoa(5001/256)+"."+strconv.Itoa(5001%256)+":80"
	for b.Loop() {
		s.apply(b, services[:10], endpoints[:10])
		few := measure(b, map[string]string{"direct": direct, "first": first})
		s.apply(b, services, endpoints)
		many := measure(b, map[string]string{"direct": direct, "first": first, "middle": middle, "last": last})
		worst := max(many["first"], many["middle"], many["last"])
		b.ReportMetric(few["direct"], "direct-ns")
		b.ReportMetric(few["first"], "ten-ns")
		b.ReportMetric(worst, "worst-ns")
		b.ReportMetric(few["first"]/few["direct"], "ten/direct")
		b.ReportMetric(worst/many["direct"], "worst/direct")
		b.ReportMetric(worst/many["direct"]/(few["first"]/few["direct"]), "worst/ten")
	}
}

// BenchmarkServicesMemory is what a process holds that keeps 1,000 services.
func BenchmarkServicesMemory(b *testing.B) {
	s := newSite(b)
	for b.Loop() {
		services, endpoints := serviceCrowd(1000)
		s.apply(b, services, endpoints)
		if _, err := s.services.Ensure(b.Context()); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		debug.FreeOSMemory()
		b.ReportMetric(resident(b), "MB")
		runtime.KeepAlive(services)
		runtime.KeepAlive(endpoints)
	}
}

// cpu is the time that this process and its ended children have worked, in
// milliseconds: on a busy machine it says more than the clock.
func cpu(b *testing.B) float64 {
	sum := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			b.Fatal(err)
		}
		sum += float64(r.Utime.Nano()+r.Stime.Nano()) / 1e6
	}
	return sum
}

// resident is the memory of this process, in megabytes.
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1024
}

// BenchmarkServicesBuild is the pure part of a change of one service among 5,000.
func BenchmarkServicesBuild(b *testing.B) {
	services, endpoints := serviceCrowd(5000)
	builder := &builder{}
	have, _ := builder.build(testLayout, services, endpoints)
	all, n := slices.Clone(endpoints), 0
	for b.Loop() {
		changeOne(n, all, endpoints)
		n++
		want, _ := builder.build(testLayout, services, endpoints)
		have.script(want)
		have = want
	}
}
