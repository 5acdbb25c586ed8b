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
	"cmp"
	"errors"
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

// run asks everything and writes what is said: documents and cases in the order of their seeds, then what is
// told otherwise under other gates.
func run(dir, only string, deep depth, out io.Writer) error {
	capabilities.Setup(true, 0) // --allow-privileged, as clusters set it
	defaults := switchable()
	passes := passesOf(defaults)
	// What is stored may be of a server that had other gates: it has whatever there may be.
	if err := passes[0].Gates.set(defaults); err != nil {
		return err
	}
	all, err := readResources()
	if err != nil {
		return err
	}
	seeds, err := readSeeds(dir, all, only)
	if err != nil {
		return err
	}
	groups := byResource(seeds)
	trials := make([]*trial, len(seeds))
	if err := each(seeds, groups, func(i int) (err error) { trials[i], err = plant(seeds[i], i); return err }); err != nil {
		return err
	}
	if err := (setting{}).set(defaults); err != nil {
		return err
	}
	asked := listen()
	plans := map[*resource]*plan{}
	for _, s := range seeds {
		plans[s.resource] = newPlan(deep)
	}
	if err := each(seeds, groups, func(i int) error { return trials[i].try(plans[seeds[i].resource]) }); err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	if err := writeTrials(w, trials); err != nil {
		return err
	}
	told := map[string][][]int{}
	for _, p := range passes {
		if !asked.any(p.Gates) {
			continue
		}
		if err := p.Gates.set(defaults); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		found := make([][]answer, len(seeds))
		among, some := told[p.Among]
		ask := func(i int) (err error) {
			var cases []int
			if some {
				cases = among[i]
			} else {
				cases = trials[i].all()
			}
			found[i], err = trials[i].under(p, cases)
			return err
		}
		if err := each(seeds, groups, ask); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if told[p.Name], err = p.write(w, trials, found); err != nil {
			return err
		}
	}
	return w.Flush()
}

// each does a work for every seed, those of one resource after each other.
func each(seeds []*seed, groups [][]int, do func(i int) error) error {
	failures := make([]error, len(seeds))
	work := make(chan []int, len(groups))
	for _, group := range groups {
		work <- group
	}
	close(work)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for group := range work {
				for _, i := range group {
					if err := do(i); err != nil {
						failures[i] = fmt.Errorf("%s: %w", seeds[i].name, err)
					}
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(failures...)
}

// writeTrials writes the documents and the cases of all seeds.
func writeTrials(w io.Writer, trials []*trial) error {
	for _, t := range trials {
		for _, d := range t.documents {
			if err := write(w, d); err != nil {
				return err
			}
		}
		for _, c := range t.cases {
			if err := write(w, c); err != nil {
				return err
			}
		}
	}
	return nil
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
