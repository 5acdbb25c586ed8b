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
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/capabilities"
)

func main() {
	dir := flag.String("seeds", "", "directory of the seeds, one file for each resource")
	only := flag.String("only", "", "one resource, as RESOURCE.GROUP; all if empty")
	pairs := flag.Int("pairs", 300, "how many pairs of changes are tried for each seed")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	// Upstream logs where its declarative validation is not what it was by hand.
	klog.SetLogger(logr.Discard())
	debug.SetGCPercent(400)
	if err := run(*dir, *only, *pairs, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(dir, only string, pairs int, out io.Writer) error {
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
	done := make([]chan struct{}, len(seeds))
	for i := range done {
		done[i] = make(chan struct{})
	}
	var next int
	var lock sync.Mutex
	take := func() int {
		lock.Lock()
		defer lock.Unlock()
		next++
		return next - 1
	}
	for range runtime.NumCPU() {
		go func() {
			for i := take(); i < len(seeds); i = take() {
				failures[i] = seeds[i].try(&recorder{out: &parts[i], seed: i}, pairs)
				close(done[i])
			}
		}()
	}
	w := bufio.NewWriter(out)
	failed := 0
	for i := range seeds {
		<-done[i]
		if failures[i] != nil {
			fmt.Fprintf(os.Stderr, "oracle: %s: %v\n", seeds[i].name, failures[i])
			failed++
		}
		if _, err := parts[i].WriteTo(w); err != nil {
			return err
		}
		parts[i] = bytes.Buffer{}
	}
	if failed > 0 {
		return fmt.Errorf("%d seeds are not what they should be", failed)
	}
	return w.Flush()
}
