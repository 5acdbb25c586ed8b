// Command placement answers for upstream's scheduler: which nodes fit a pod, why others do not, how those
// that fit are scored, and which pods would have to go for it. It reads scenarios as lines of JSON and
// writes one line for each; scheduler/tests/upstream holds its answers against ours.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/backend/queue"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
)

type scenario struct {
	Nodes       []*v1.Node
	Pods        []*v1.Pod
	Namespaces  []*v1.Namespace
	Services    []*v1.Service
	ReplicaSets []*appsv1.ReplicaSet
	Budgets     []*policyv1.PodDisruptionBudget
	Claims      []*v1.PersistentVolumeClaim
	Volumes     []*v1.PersistentVolume
	Classes     []*storagev1.StorageClass
	CSINodes    []*storagev1.CSINode
	Pod         *v1.Pod
}

type answer struct {
	PreFilter string                      `json:"preFilter"`
	Nodes     map[string]string           `json:"nodes"`
	Scores    map[string]map[string]int64 `json:"scores"`
	Post      string                      `json:"post"`
	Victims   []string                    `json:"victims"`
}

func objects(s *scenario) []runtime.Object {
	all := with(nil, s.Nodes)
	all = with(all, s.Pods)
	all = with(all, s.Namespaces)
	all = with(all, s.Services)
	all = with(all, s.ReplicaSets)
	all = with(all, s.Budgets)
	all = with(all, s.Claims)
	all = with(all, s.Volumes)
	all = with(all, s.Classes)
	all = with(all, s.CSINodes)
	return append(all, s.Pod)
}

func with[T runtime.Object](all []runtime.Object, some []T) []runtime.Object {
	for _, o := range some {
		all = append(all, o)
	}
	return all
}

// victims collects the names of pods that are deleted.
type victims struct {
	sync.Mutex
	names []string
}

func (v *victims) count() int {
	v.Lock()
	defer v.Unlock()
	return len(v.names)
}

func decide(s *scenario) (*answer, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewSimpleClientset(objects(s)...)
	gone := &victims{}
	client.PrependReactor("delete", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		gone.Lock()
		defer gone.Unlock()
		gone.names = append(gone.names, action.(clienttesting.DeleteAction).GetName())
		return true, nil, nil
	})
	client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &v1.Pod{}, nil
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	config, err := latest.Default()
	if err != nil {
		return nil, err
	}
	snapshot := cache.NewSnapshot(s.Pods, s.Nodes)
	nominator := queue.NewSchedulingQueue(nil, factory)
	claims := assumecache.NewAssumeCache(klog.FromContext(ctx), factory.Resource().V1().ResourceClaims().Informer(), "resource claim", "", nil)
	slices, err := tracker.StartTracker(ctx, tracker.Options{
		EnableDeviceTaintRules:   true,
		EnableConsumableCapacity: true,
		SliceInformer:            factory.Resource().V1().ResourceSlices(),
		TaintInformer:            factory.Resource().V1().DeviceTaintRules(),
		KubeClient:               client,
	})
	if err != nil {
		return nil, err
	}
	dra := dynamicresources.NewDRAManager(ctx, claims, slices, factory)
	f, err := frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), &config.Profiles[0],
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithMutableSnapshotLister(snapshot),
		frameworkruntime.WithPodNominator(nominator),
		frameworkruntime.WithPodActivator(nominator),
		frameworkruntime.WithEventRecorder(&events.FakeRecorder{}),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
		frameworkruntime.WithSharedDRAManager(dra),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithPodGroupManager(cache.New(ctx, nil, false, false)),
		frameworkruntime.WithLogger(klog.FromContext(ctx)),
	)
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return ask(ctx, f, s, snapshot, gone)
}

func ask(ctx context.Context, f framework.Framework, s *scenario, snapshot *cache.Snapshot, gone *victims) (*answer, error) {
	said := &answer{Nodes: map[string]string{}, Scores: map[string]map[string]int64{}, Victims: []string{}}
	state := framework.NewCycleState()
	statuses := framework.NewDefaultNodeToStatus()
	all, err := snapshot.NodeInfos().List()
	if err != nil {
		return nil, err
	}
	only, status, _ := f.RunPreFilterPlugins(ctx, state, s.Pod)
	var fit []fwk.NodeInfo
	if !status.IsSuccess() {
		said.PreFilter = text(status)
		statuses.SetAbsentNodesStatus(status)
	} else {
		if !only.AllNodes() {
			statuses.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "ruled out"))
		}
		for _, node := range all {
			name := node.Node().Name
			if !only.AllNodes() && !only.NodeNames.Has(name) {
				continue
			}
			status := f.RunFilterPluginsWithNominatedPods(ctx, state, s.Pod, node)
			said.Nodes[name] = text(status)
			if status.IsSuccess() {
				fit = append(fit, node)
			} else {
				statuses.Set(name, status)
			}
		}
	}
	if len(fit) == 0 {
		_, status := f.RunPostFilterPlugins(ctx, state, s.Pod, statuses)
		said.Post = status.Message()
		if status.IsSuccess() {
			wait(said.Post, gone)
			said.Victims = append(said.Victims, gone.names...)
			sort.Strings(said.Victims)
		}
		return said, nil
	}
	if status := f.RunPreScorePlugins(ctx, state, s.Pod, fit); !status.IsSuccess() {
		return nil, status.AsError()
	}
	scores, status := f.RunScorePlugins(ctx, state, s.Pod, fit)
	if !status.IsSuccess() {
		return nil, status.AsError()
	}
	for _, node := range scores {
		own := map[string]int64{}
		for _, score := range node.Scores {
			own[score.Name] = score.Score
		}
		said.Scores[node.Name] = own
	}
	return said, nil
}

// wait returns once as many pods are deleted as the message says.
func wait(message string, gone *victims) {
	var node string
	var count int
	fmt.Sscanf(message, "preemption: found a potential placement for pod on node %s preempting %d victims", &node, &count)
	for i := 0; gone.count() < count && i < 500; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	gone.Lock()
}

func text(status *fwk.Status) string {
	return fmt.Sprintf("%v: %s", status.Code(), status.Message())
}

func main() {
	metrics.Register()
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	decoder := json.NewDecoder(in)
	for decoder.More() {
		s := &scenario{}
		if err := decoder.Decode(s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		said, err := decide(s)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(said); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
