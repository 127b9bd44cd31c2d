// A rotator on a clock of your own. Here the time is that of a simulation, and
// stands still until the simulation moves it. ManualClock does the same for
// tests, and wakes the callers that wait.

#include <keyrotator/keyrotator.h>

#include <chrono>

struct Simulation {
  std::chrono::milliseconds time{0};
};

struct SimulationClock {
  using duration = std::chrono::milliseconds;
  using time_point = std::chrono::time_point<SimulationClock, duration>;
  time_point now() const { return time_point(simulation->time); }
  const Simulation* simulation;
};

int main() {
  using std::chrono::seconds;
  Simulation simulation;
  keyrotator::KeyRotator rotator({"sk-a"}, {}, keyrotator::RoundRobin{},
                                 SimulationClock{&simulation});
  rotator.MarkRateLimited("sk-a", seconds(20));
  fmt::print("at once: {} keys, the next at {} ms\n", rotator.Available(),
             rotator.NextAvailable()->time_since_epoch().count());
  simulation.time += seconds(20);
  fmt::print("20 s later: {} key\n", rotator.Available());
}
