// Command catalogue writes what Kubernetes looks like as text: every message and field of its API,
// every resource, kind and feature gate, and what an API server makes in a new cluster. The facts are
// read off upstream's own registered types, REST storages and policies at run time, so nothing is
// transcribed by hand and a new upstream version shows as a diff of the text files.
//
// The format is described at the head of each file that is written. Facts only: neither descriptions
// nor comments of upstream are carried over.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	out := flag.String("out", "", "root of the tree that the files are written into")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	// What upstream's servers say while they are built is about sockets that nobody listens on.
	klog.SetLogger(logr.Discard())
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "catalogue:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	cat, err := readTypes()
	if err != nil {
		return fmt.Errorf("types: %w", err)
	}
	if err := cat.readSchemas(); err != nil {
		return fmt.Errorf("schemas: %w", err)
	}
	resources, err := cat.readResources()
	if err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	if err := cat.readDefaults(cat.rootsOf(resources)); err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	gates, err := readGates()
	if err != nil {
		return fmt.Errorf("gates: %w", err)
	}
	for _, f := range []struct {
		name  string
		write func(*bytes.Buffer) error
	}{
		{"proto/catalogue/messages.txt", cat.writeMessages},
		{"proto/catalogue/kinds.txt", cat.writeKinds},
		{"proto/catalogue/gates.txt", gates.write},
		{"proto/catalogue/resources.txt", resources.write},
		{"proto/catalogue/validations.txt", cat.writeValidations},
		{"apiserver/src/bootstrap/rbac.txt", writeRBAC},
		{"apiserver/src/bootstrap/flowcontrol.txt", writeFlowControl},
	} {
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
