// Command cri asks a node's container runtime over the CRI socket, as a kubelet does: `ctr` pulls by another path,
// which reads other settings.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const usage = `usage: cri pull IMAGE | remove IMAGE | images | status | version
The socket is $CRI_SOCKET, /run/containerd/containerd.sock by default; the time limit $CRI_TIMEOUT, 10m by default.
$CRI_USER is the pull secret, USER:PASSWORD.
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	limit, err := time.ParseDuration(environment("CRI_TIMEOUT", "10m"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	socket := environment("CRI_SOCKET", "/run/containerd/containerd.sock")
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return err
	}
	defer connection.Close()
	images, runtime := cri.NewImageServiceClient(connection), cri.NewRuntimeServiceClient(connection)

	switch {
	case len(args) == 2 && args[0] == "pull":
		start := time.Now()
		request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: args[1]}}
		if user, password, found := strings.Cut(os.Getenv("CRI_USER"), ":"); found {
			request.Auth = &cri.AuthConfig{Username: user, Password: password}
		}
		answer, err := images.PullImage(ctx, request)
		if err != nil {
			return fmt.Errorf("after %s: %w", time.Since(start).Round(time.Millisecond), err)
		}
		return show(map[string]any{"image": answer.ImageRef, "seconds": time.Since(start).Seconds()})
	case len(args) == 2 && args[0] == "remove":
		_, err := images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: args[1]}})
		return err
	case len(args) == 1 && args[0] == "images":
		answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
		if err != nil {
			return err
		}
		return show(answer.Images)
	case len(args) == 1 && args[0] == "status":
		answer, err := runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
		if err != nil {
			return err
		}
		return show(answer)
	case len(args) == 1 && args[0] == "version":
		answer, err := runtime.Version(ctx, &cri.VersionRequest{})
		if err != nil {
			return err
		}
		return show(answer)
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
	return nil
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func show(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
