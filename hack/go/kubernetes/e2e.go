// Package kubernetes pins what hack/tools builds from upstream's tree.
//
// e2e.test is a test binary, which a tool directive cannot name; this import keeps what it needs in go.sum.
package kubernetes

import _ "k8s.io/kubernetes/test/e2e"
