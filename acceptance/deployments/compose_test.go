// Package deployments checks what the images and compose.yaml promise, without a container engine: the real loader reads
// the file, and the Dockerfiles are read line by line.
package deployments

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

var services = []string{"cluster", "controlplane", "gateway", "notification", "persistence", "store"}

func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "deployments/compose/compose.yaml")},
		cli.WithResolvedPaths(true), cli.WithEnv(nil))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeRunsEveryServiceOnRealKafkaAndRedis(t *testing.T) {
	project := load(t)
	want := append(slices.Clone(services), "kafka", "redis")
	if got := project.ServiceNames(); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Fatalf("services %v, want %v", got, want)
	}
	for name, service := range project.Services {
		if service.HealthCheck == nil || service.HealthCheck.Disable || len(service.HealthCheck.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s on %q: nothing here asks for a password", name, port.Published, port.HostIP)
			}
		}
	}

	kafka := project.Services["kafka"]
	if !strings.HasPrefix(kafka.Image, "apache/kafka:4.") {
		t.Errorf("kafka runs %s, want Apache Kafka 4", kafka.Image)
	}
	for name, want := range map[string]string{
		"KAFKA_PROCESS_ROLES":                  "broker,controller",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":      "false",
		"KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE": "false",
		"KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE":     "LogAppendTime",
		"KAFKA_MESSAGE_MAX_BYTES":              "8454144",
	} {
		if got := kafka.Environment[name]; got == nil || *got != want {
			t.Errorf("kafka's %s is not %s", name, want)
		}
	}
}

func TestComposeGivesEachServiceWhatItNeeds(t *testing.T) {
	project := load(t)
	nodes := make(map[string]string)
	for _, name := range services {
		t.Run(name, func(t *testing.T) {
			service := project.Services[name]
			want := map[string]string{
				"KAFKA_BROKERS":     "kafka:9092",
				"REDIS_ADDR":        "redis:6379",
				"EXESDB_STORE_ID":   "exesdb",
				"EXESDB_SHARDS":     "4",
				"EXESDB_NODE":       name + "-0",
				"EXESDB_ADMIN_ADDR": "0.0.0.0:8081",
			}
			switch name {
			case "gateway":
				want["EXESDB_HTTP_ADDR"] = "0.0.0.0:8080"
				want["EXESDB_GRPC_ADDR"] = "0.0.0.0:9090"
			case "persistence":
				want["EXESDB_DATA_DIR"] = "/var/lib/exesdb"
			}
			for variable, value := range want {
				if got := service.Environment[variable]; got == nil || *got != value {
					t.Errorf("%s is not %q", variable, value)
				}
			}
			node := service.Environment["EXESDB_NODE"]
			if node == nil {
				t.Fatal("no EXESDB_NODE")
			}
			if other, taken := nodes[*node]; taken {
				t.Errorf("EXESDB_NODE %s is also %s's", *node, other)
			}
			nodes[*node] = name

			for _, needed := range []string{"kafka", "redis"} {
				if on := service.DependsOn[needed]; on.Condition != types.ServiceConditionHealthy {
					t.Errorf("does not wait for a healthy %s", needed)
				}
			}
			if service.Build == nil {
				t.Fatal("is not built from this repository")
			}
			context, err := filepath.Abs(root)
			if err != nil {
				t.Fatal(err)
			}
			if service.Build.Context != context {
				t.Errorf("is built in %s, want %s", service.Build.Context, context)
			}
			if want := "deployments/docker/" + name + ".Dockerfile"; !strings.HasSuffix(service.Build.Dockerfile, want) {
				t.Errorf("is built by %s, want %s", service.Build.Dockerfile, want)
			}
		})
	}

	volumes := project.Services["persistence"].Volumes
	if len(volumes) != 1 || volumes[0].Type != types.VolumeTypeVolume || volumes[0].Target != "/var/lib/exesdb" {
		t.Errorf("persistence keeps its data in %+v, want a named volume at its EXESDB_DATA_DIR", volumes)
	}
}

func TestImages(t *testing.T) {
	for _, name := range services {
		t.Run(name, func(t *testing.T) {
			stages := dockerfile(t, name)
			if len(stages) != 2 {
				t.Fatalf("%d stages, want one that builds and one that runs", len(stages))
			}
			build, final := stages[0], stages[1]
			if !strings.HasPrefix(build[0].args, "golang:1.26") {
				t.Errorf("built on %s", build[0].args)
			}
			if !strings.HasPrefix(final[0].args, "gcr.io/distroless/static:nonroot") {
				t.Errorf("runs on %s", final[0].args)
			}

			for _, in := range build {
				if in.name != "COPY" {
					continue
				}
				fields := strings.Fields(in.args)
				for _, from := range fields[:len(fields)-1] {
					if !allowed(from, name) {
						t.Errorf("copies %s into the build", from)
					}
				}
			}
			if env := find(build, "ENV"); !strings.Contains(env, "CGO_ENABLED=0") || !strings.Contains(env, "GOWORK=off") {
				t.Errorf("builds with ENV %q, want CGO_ENABLED=0 and GOWORK=off", env)
			}
			for _, in := range final {
				if in.name == "COPY" && !strings.Contains(in.args, "--from=") {
					t.Errorf("the image takes %q from the repository, not from a build", in.args)
				}
			}
			if user := find(final, "USER"); user != "65532:65532" {
				t.Errorf("runs as %q, want distroless's nonroot by number, which Kubernetes can check", user)
			}
			if entry := find(final, "ENTRYPOINT"); entry != `["/usr/local/bin/exesdb-`+name+`"]` {
				t.Errorf("starts %s", entry)
			}
		})
	}
}

// allowed says what an image of a service may be built from: services do not import each other.
func allowed(path, service string) bool {
	for _, folder := range []string{"contracts", "shared", "services/" + service} {
		if path == folder || strings.HasPrefix(path, folder+"/") {
			return true
		}
	}
	return false
}

type instruction struct{ name, args string }

// dockerfile reads the instructions of each stage; the first of a stage is its FROM.
func dockerfile(t *testing.T, service string) [][]instruction {
	t.Helper()
	file, err := os.Open(filepath.Join(root, "deployments/docker", service+".Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stages [][]instruction
	var pending string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, goesOn := strings.CutSuffix(line, `\`); goesOn {
			pending += rest
			continue
		}
		name, args, _ := strings.Cut(pending+line, " ")
		pending = ""
		if name == "FROM" {
			stages = append(stages, nil)
		}
		if len(stages) == 0 {
			t.Fatalf("%s before FROM", name)
		}
		last := len(stages) - 1
		stages[last] = append(stages[last], instruction{name, strings.TrimSpace(args)})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return stages
}

// find returns the last instruction of that name: it is the one that holds.
func find(stage []instruction, name string) string {
	for _, in := range slices.Backward(stage) {
		if in.name == name {
			return in.args
		}
	}
	return ""
}
