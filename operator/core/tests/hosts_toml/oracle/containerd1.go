//go:build containerd1

package main

import (
	"context"

	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/containerd/remotes/docker/config"
)

func configure(ctx context.Context, dir string) docker.RegistryHosts {
	return config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(dir)})
}
