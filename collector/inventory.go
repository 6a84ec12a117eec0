package collector

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log/level"
)

// maxReadings limits the readings of an inventory that changes while it is read.
const maxReadings = 4

// InventoryStatus is what is known of the instances of a region. It never changes.
type InventoryStatus struct {
	LastSuccess time.Time         // end of the last successful reading; zero before the first
	Instances   []crsapi.Instance // of that reading, ordered by RedisID
	Err         error             // of the last reading; nil if it succeeded, or none has ended

	begun int64 // the last successful reading, in UNIX seconds by the API's clock; 0 before the first
}

// merge adds the inventory to what the tasks say of each instance.
func (s *InventoryStatus) merge(instances map[string]*instance) {
	for i := range s.Instances {
		row := &s.Instances[i]
		in, listed := instances[row.RedisID]
		if !listed {
			in = &instance{Listed: ledger.Listed{RedisID: row.RedisID}}
			instances[row.RedisID] = in
		}
		in.Exists, in.Created, in.Isolated = true, row.Created.Unix(), row.Isolated
		in.redisName, in.projectID = cmp.Or(row.RedisName, in.redisName), cmp.Or(row.ProjectID, in.projectID)
	}
}

// inventorySource is the last one: API 2.0 has no instances.
func (r *region) inventorySource() Source { return r.sources[len(r.sources)-1] }

// startInventory begins a reading beside the polls if one is due. It ends before the next
// one is due.
func (r *region) startInventory(now time.Time) {
	every := r.cfg.Inventory
	if every == 0 || now.Sub(r.inventoryBegun) < every || r.ctx.Err() != nil {
		return
	}
	r.inventoryBegun = now
	r.exporter.running.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, every)
		defer cancel()
		read, err := r.readInventory(ctx)
		if err == nil || r.ctx.Err() == nil { // else Close ended it
			r.noteInventory(read, err)
		}
	})
}

// noteInventory keeps what a reading found. One that failed changes no fact.
func (r *region) noteInventory(read InventoryStatus, err error) {
	logger, was := r.log.logger, r.inventory.Load()
	switch {
	case err != nil:
		reason, _ := reasonOf(err)
		r.metrics.inventoryFailures.WithLabelValues(string(reason)).Inc()
		if was.Err == nil || reasonsOf(was.Err) != string(reason) {
			level.Error(logger).Log("msg", "inventory failed", "reason", reason, "err", err, "advice", crsapi.Advice(err, r.inventorySource().API()))
		}
		read = *was
		read.Err = err
	case was.LastSuccess.IsZero() || was.Err != nil:
		level.Info(logger).Log("msg", "inventory read", "instances", len(read.Instances))
	}
	r.inventory.Store(&read)
}

// readInventory reads the inventory. It may change while its pages are read, and so lack an
// instance: two readings in a row must agree.
func (r *region) readInventory(ctx context.Context) (read InventoryStatus, err error) {
	begin, problem := r.metrics.clock.Time(time.Now()), ""
	var all, before []crsapi.Instance
	same := func(a, b crsapi.Instance) bool { return a.RedisID == b.RedisID }
	for range maxReadings {
		if all, problem, err = r.readInstances(ctx); err != nil {
			return read, err
		}
		if problem == "" && slices.EqualFunc(all, before, same) {
			break
		}
		before = all
		problem = cmp.Or(problem, "it changes all the time")
	}
	if problem == "" && len(all) == 0 && r.shown.Load().inUse() {
		problem = "it is empty, but there are tasks"
	}
	if problem != "" {
		return read, &crsapi.Error{Reason: crsapi.ReasonDecode, Err: fmt.Errorf("the inventory is not believed: %s", problem)}
	}
	for _, in := range all {
		if in.Created.IsZero() || in.Created.After(begin) {
			in.Created = begin
		}
		if earliest := begin.Add(-r.cfg.Lookback); r.cfg.Lookback > 0 && in.Created.Before(earliest) {
			in.Created = earliest // the list does not have the backups before
		}
		if _, watched := slices.BinarySearch(r.cfg.RedisIDs, in.RedisID); watched || len(r.cfg.RedisIDs) == 0 {
			read.Instances = append(read.Instances, in)
		}
	}
	read.LastSuccess, read.begun = time.Now(), begin.Unix()
	return read, nil
}

// readInstances reads all pages, and returns what is wrong with them.
func (r *region) readInstances(ctx context.Context) (all []crsapi.Instance, problem string, err error) {
	source, total := r.inventorySource(), 0
	for offset, more := 0, true; more; offset += crsapi.MaxInstances {
		page, of, err := source.Instances(ctx, offset)
		if err != nil {
			return nil, "", fmt.Errorf("inventory: %w", err)
		}
		if offset > 0 && of != total {
			return nil, fmt.Sprintf("its total changed from %d to %d", total, of), nil
		}
		total, all = of, append(all, page...)
		more = len(page) == crsapi.MaxInstances && len(all) < total
	}
	slices.SortFunc(all, func(a, b crsapi.Instance) int { return strings.Compare(a.RedisID, b.RedisID) })
	all = slices.CompactFunc(all, func(a, b crsapi.Instance) bool { return a.RedisID == b.RedisID })
	switch {
	case len(all) > 0 && all[0].RedisID == "":
		return nil, "some of its rows cannot be read", nil
	case len(all) != total:
		return nil, fmt.Sprintf("it has %d instances, with a total of %d", len(all), total), nil
	}
	return all, "", nil
}
