// Command oracle says what upstream's registry makes of writes: of valid objects, the seeds, changed field
// by field, and of their updates. It runs defaulting, conversion and the strategies of kube-apiserver
// (registry/rest.BeforeCreate and BeforeUpdate, declarative validation included) without a server, and
// writes one line of JSON for each case; apiserver/resources/examples/oracle holds our registry against them.
//
// A line is a document, which later lines refer to by its number, or a case: documents with what is
// different in them. See record.go.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/capabilities"
)

func main() {
	dir := flag.String("seeds", "", "directory of the seeds, one file for each resource")
	only := flag.String("only", "", "one resource, as RESOURCE.GROUP; all if empty")
	pairs := flag.Int("pairs", 20, "how many pairs of changes are tried for each verb and part of a seed")
	all := flag.Bool("all", false, "try every change, also where others stand for it")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	// Upstream logs where its declarative validation is not what it was by hand.
	klog.SetLogger(logr.Discard())
	debug.SetGCPercent(400)
	uuid.SetRand(zeros{})
	if err := run(*dir, *only, depth{*pairs, *all}, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

// zeros are the random bytes of names that are made of them: the same each time.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// run tries the seeds, those of one resource after each other, and writes what comes out in their order.
func run(dir, only string, deep depth, out io.Writer) error {
	capabilities.Setup(true, 0) // --allow-privileged, as clusters set it
	all, err := readResources()
	if err != nil {
		return err
	}
	seeds, err := readSeeds(dir, all, only)
	if err != nil {
		return err
	}
	parts := make([]bytes.Buffer, len(seeds))
	failures := make([]error, len(seeds))
	work := make(chan []int, len(seeds))
	for _, group := range byResource(seeds) {
		work <- group
	}
	close(work)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for group := range work {
				plan := newPlan(deep)
				for _, i := range group {
					failures[i] = seeds[i].try(&recorder{out: &parts[i], seed: i}, plan)
				}
			}
		})
	}
	workers.Wait()
	w := bufio.NewWriter(out)
	failed := 0
	for i := range seeds {
		if failures[i] != nil {
			fmt.Fprintf(os.Stderr, "oracle: %s: %v\n", seeds[i].name, failures[i])
			failed++
		}
		if _, err := parts[i].WriteTo(w); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d seeds are not what they should be", failed)
	}
	return w.Flush()
}

// byResource lists the seeds of each resource, the most numerous first: nobody waits for them at the end.
func byResource(seeds []*seed) [][]int {
	found := map[*resource][]int{}
	for i, s := range seeds {
		found[s.resource] = append(found[s.resource], i)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b []int) int {
		return cmp.Or(len(b)-len(a), a[0]-b[0])
	})
}
