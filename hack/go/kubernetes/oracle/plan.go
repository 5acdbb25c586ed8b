package main

import (
	"cmp"
	"hash/fnv"
	"math/rand"
	"slices"
	"strings"
)

// depth says how much is tried.
type depth struct {
	pairs int
	all   bool
}

// plan chooses among the changes of the seeds of one resource: many say the same of another element, or of
// another seed. Each place has each kind of change in every seed; what comes further on has a value that
// the place did not have yet.
type plan struct {
	depth
	// tried are the values that a place had, by target.
	tried map[string]bool
}

func newPlan(deep depth) *plan { return &plan{deep, map[string]bool{}} }

// limits of changes of one kind at one place of one seed.
const (
	// known have values that the resource's seeds had there already.
	known = 1
	// updates are those of an object as a whole: rules look at values on creates, updates at what was.
	updates = 2
	// strangers are no business of the target; what they say is the same for all.
	strangers = 1
	// places is of how many one sees strangers.
	places = 6
	// followers are updates of what was created.
	followers = 1
)

// target is what is written: "create", "update", or a subresource.
type target string

// owns says whether a change is of the part that a target writes.
func (t target) owns(c change) bool {
	status := strings.HasPrefix(c.place, "status")
	switch t {
	case "create", "update", "finalize":
		return !status
	case "ephemeralcontainers":
		return strings.HasPrefix(c.place, "spec.ephemeralContainers") || c.metadata
	case "resize":
		resized := strings.Contains(c.place, ".resources") || strings.Contains(c.place, ".resizePolicy")
		return resized || c.metadata
	}
	return status || c.metadata
}

// choose returns the changes that are tried on a target of a seed, in their order.
func (p *plan) choose(seed string, on target, changes []change) []change {
	chosen := slices.Clone(changes)
	if !p.all {
		chosen = p.thin(seed, on, changes)
	}
	random := rand.New(rand.NewSource(int64(hash(seed, string(on)))))
	chosen = append(chosen, pairsOf(chosen, p.pairs, random)...)
	return append([]change{{label: "unchanged"}}, chosen...)
}

// thin goes through the changes in an order that is by chance, so that other seeds try other values.
func (p *plan) thin(seed string, on target, changes []change) []change {
	order := make([]int, len(changes))
	chance := make([]uint64, len(changes))
	for i, c := range changes {
		order[i] = i
		chance[i] = hash(seed, string(on), c.label)
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(chance[a], chance[b]), a-b) })
	count := map[string]int{}
	var kept []int
	for _, i := range order {
		c := changes[i]
		general := c.place + " " + c.kind
		particular := string(on) + " " + general + " " + c.value
		limit := known
		switch {
		case !on.owns(c):
			limit = strangersAt(on, general)
		case on == "update":
			limit = updates
		case !p.tried[particular]:
			limit = len(changes)
		}
		if count[general] >= limit {
			continue
		}
		count[general]++
		p.tried[particular] = true
		kept = append(kept, i)
	}
	slices.Sort(kept)
	chosen := make([]change, len(kept))
	for i, k := range kept {
		chosen[i] = changes[k]
	}
	return chosen
}

// follows says whether a change that was created is followed by an update of a target as well: by one that
// undoes it, or by one that keeps what is wrong with it.
func (p *plan) follows(count map[string]int, on target, c change) bool {
	if p.all {
		return true
	}
	general := c.place + " " + c.kind
	limit := followers
	if !on.owns(c) {
		limit = strangersAt(on, general)
	}
	particular := string(on) + " " + general
	count[particular]++
	return count[particular] <= limit
}

// strangersAt is how many strangers of a kind a target sees at a place.
func strangersAt(on target, general string) int {
	if hash(string(on), general)%places == 0 {
		return strangers
	}
	return 0
}

func hash(words ...string) uint64 {
	h := fnv.New64a()
	for _, word := range words {
		_, _ = h.Write([]byte(word))
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}
