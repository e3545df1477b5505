package main

import (
	"context"
	"sync"

	"github.com/leasedog/leasedog/systemd"
)

// units is systemd over one connection that is made again after it broke: PID 1 closes it when it re-executes itself.
type units struct {
	mu sync.Mutex
	m  *systemd.Manager
}

func (u *units) manager(ctx context.Context) (*systemd.Manager, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m != nil && u.m.Connected() {
		return u.m, nil
	}
	if u.m != nil {
		u.m.Close()
		u.m = nil
	}
	m, err := systemd.Connect(ctx)
	if err != nil {
		return nil, err
	}
	u.m = m
	return m, nil
}

func (u *units) Ping(ctx context.Context) error {
	m, err := u.manager(ctx)
	if err != nil {
		return err
	}
	return m.Ping(ctx)
}

func (u *units) StartUnit(ctx context.Context, name string) error {
	m, err := u.manager(ctx)
	if err != nil {
		return err
	}
	return m.StartUnit(ctx, name)
}

func (u *units) StopUnit(ctx context.Context, name string) error {
	m, err := u.manager(ctx)
	if err != nil {
		return err
	}
	return m.StopUnit(ctx, name)
}

func (u *units) Unit(ctx context.Context, name string) (systemd.UnitState, error) {
	m, err := u.manager(ctx)
	if err != nil {
		return systemd.UnitState{}, err
	}
	return m.Unit(ctx, name)
}

func (u *units) JobType(ctx context.Context, name string) (string, error) {
	m, err := u.manager(ctx)
	if err != nil {
		return "", err
	}
	return m.JobType(ctx, name)
}

func (u *units) Processes(ctx context.Context, name string) ([]int, error) {
	m, err := u.manager(ctx)
	if err != nil {
		return nil, err
	}
	return m.Processes(ctx, name)
}

func (u *units) Reboot(ctx context.Context) error {
	m, err := u.manager(ctx)
	if err != nil {
		return err
	}
	return m.Reboot(ctx)
}

func (u *units) PowerOff(ctx context.Context) error {
	m, err := u.manager(ctx)
	if err != nil {
		return err
	}
	return m.PowerOff(ctx)
}
