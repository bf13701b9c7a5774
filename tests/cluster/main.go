// Controlplane is one program that is every part of a Kubernetes control plane, for tests on loopback.
//
// One binary links the code that the parts share once. Each part that serves stops when its standard input
// ends, so none outlives the test run that holds the other end of the pipe, however that run dies.
package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = `usage:
  controlplane etcd DATA_DIR CLIENT_URL PEER_URL
  controlplane compact CLIENT_URL
  controlplane apiserver|controller-manager|scheduler [its flags]`

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("%s", usage))
	}
	name, args := os.Args[1], os.Args[2:]
	switch {
	case name == "etcd" && len(args) == 3:
		go stopWithStdin()
		fail(serveEtcd(args[0], args[1], args[2]))
	case name == "compact" && len(args) == 1:
		fail(compact(args[0]))
	case name == "apiserver":
		run(apiserver.NewAPIServerCommand(), args)
	case name == "controller-manager":
		run(controllermanager.NewControllerManagerCommand(), args)
	case name == "scheduler":
		run(scheduler.NewSchedulerCommand(), args)
	default:
		fail(fmt.Errorf("%s", usage))
	}
}

// run hands over to a component's own command line.
func run(command *cobra.Command, args []string) {
	go stopWithStdin()
	command.SetArgs(args)
	os.Exit(cli.Run(command))
}

func stopWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveEtcd runs a single-member etcd until SIGINT or SIGTERM.
func serveEtcd(dataDir, client, peer string) error {
	clientURL, err := url.Parse(client)
	if err != nil {
		return err
	}
	peerURL, err := url.Parse(peer)
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clientURL}, []url.URL{*clientURL}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true                // the data need not outlive the machine
	config.TickMs, config.ElectionMs = 50, 500 // the only member elects itself sooner

	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-stop:
		return nil
	case err := <-server.Err():
		return err
	}
}

// compact drops all history up to now and prints the revision: older resourceVersions then answer 410 Gone.
func compact(client string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, Context: ctx})
	if err != nil {
		return err
	}
	defer etcd.Close()
	now, err := etcd.Get(ctx, "any-key-tells-the-revision")
	if err != nil {
		return err
	}
	if _, err := etcd.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	fmt.Println(now.Header.Revision)
	return nil
}
