// File: fleet.h
//
// A fleet: several processes with the same keys, each with a rotator of its own
// that sees only its own requests. What they share, if anything, is the business
// of a Sharing; what may go wrong between them is a Fault. All meet the same
// requests and the same provider as one process would, and the same oracle.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_FLEET_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_FLEET_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet/ledger.h"
#include "keyrotator/fleet/memory_exchange.h"
#include "keyrotator/fleet/pacer.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/pool/fleet_desk.h"
#include "keyrotator/pool/fleet_member.h"
#include "keyrotator/selection.h"
#include "tests/benchmarks/goodput/cells.h"
#include "tests/benchmarks/goodput/contenders.h"
#include "tests/benchmarks/goodput/figures.h"
#include "tests/benchmarks/goodput/oracle.h"
#include "tests/benchmarks/goodput/provider.h"
#include "tests/benchmarks/goodput/simulation.h"
#include "tests/benchmarks/goodput/workload.h"

namespace keyrotator::goodput {

// Which process a request comes to.
enum class Split {
  kEqual,   // any
  kOne,     // the first for 80 % of them
  kMoving,  // the same, but another one after each minute
};
constexpr const char* ToString(Split split) {
  switch (split) {
    case Split::kEqual:
      return "equal";
    case Split::kOne:
      return "one";
    case Split::kMoving:
      return "moving";
  }
  return "?";
}

// What goes wrong between the processes. Times in seconds from the start.
struct Fault {
  std::string name = {};
  // The engine over which they share does not answer then.
  double away_from = 0;
  double away_to = 0;
  double again_every = 0;         // and as long, so often; 0: not again
  bool comes_back_empty = false;  // it has forgotten all
  bool first_alone = false;       // it answers all but the first process
  // How long its replies take, there and back.
  double reply = 0.001;
  // So often a process dies, each in turn. Its requests are lost; the one that
  // takes its place knows nothing.
  double die_every = 0;

  bool IsAway(std::size_t process, Nanos now) const {
    return IsAt(now) && (!first_alone || process == 0);
  }
  // Whether it is such a time, or one of the ten seconds after it.
  bool IsAt(Nanos now) const { return IsIn(now, away_from, away_to); }
  bool IsAfter(Nanos now) const { return IsIn(now, away_to, away_to + 10); }

 private:
  bool IsIn(Nanos now, double from, double to) const {
    Nanos since = now - kStart - FromSeconds(from);
    if (since < 0) return false;
    if (again_every > 0) since %= FromSeconds(again_every);
    return away_to > 0 && since < FromSeconds(to - from);
  }
};

struct FleetOptions {
  std::size_t processes = 4;
  Split split = Split::kEqual;
  Fault fault = {};
};

// What one process does to share with the others, in the loop of its events.
class Sharing {
 public:
  virtual ~Sharing() = default;
  // That process has begun, or one that takes its place: the rotator of before is
  // destroyed after this.
  virtual void Began(std::size_t process,
                     std::shared_ptr<internal::FleetMember> member) = 0;
  // When it wants to be called again, kNever for not at all. Asked after each
  // event of the process.
  virtual Nanos Due() const = 0;
  virtual void Run(Nanos now) = 0;
};

// The same number of them as there are processes, for one run.
using MakeSharing = std::function<std::vector<std::unique_ptr<Sharing>>(
    const FleetOptions& options, std::uint64_t seed)>;

// A way to share. Without `make` each process is alone.
struct FleetEntry {
  std::string name;
  MakeSharing make = {};
};

// A ledger, and what goes wrong on the way to it.
struct Engine {
  Fault fault;
  std::unique_ptr<FleetLedger> ledger = std::make_unique<FleetLedger>();
  bool was_away = false;

  // Null while it is away.
  FleetLedger* At(std::size_t process, Nanos now) {
    const bool is_away = fault.IsAway(process, now);
    if (!is_away && was_away && fault.comes_back_empty)
      ledger = std::make_unique<FleetLedger>();
    was_away = is_away;
    return is_away ? nullptr : ledger.get();
  }
};

// As keyrotator::Fleet does it, but for a reply that is under way in the
// simulation's time.
class LedgerSharing final : public Sharing {
 public:
  LedgerSharing(std::shared_ptr<Engine> engine, std::uint64_t seed)
      : engine_(std::move(engine)), dice_(seed) {}

  void Began(std::size_t process,
             std::shared_ptr<internal::FleetMember> member) override {
    process_ = process;
    member_ = std::move(member);
    pacer_.emplace(kPeriod, member_->Now(), dice_.Uniform());
    reply_at_ = internal::kNever;
    internal::FleetTerms terms;
    terms.name = [](std::string_view kind, std::string_view value) {
      return MemoryExchange(nullptr).NameOf(kind, value);
    };
    terms.random = [this] { return dice_.Uniform(); };
    member_->JoinFleet(std::move(terms), [] {});
  }

  Nanos Due() const override {
    if (reply_at_ != internal::kNever) return reply_at_;
    return pacer_->Due(member_->IsFleetUrgent(), member_->IsFleetThirsty());
  }

  void Run(Nanos now) override {
    if (reply_at_ == internal::kNever) return Ask(now);
    if (reply_at_ > now) return;
    reply_at_ = internal::kNever;
    if (!reply_) {
      pacer_->Missed(now, dice_.Uniform());
      return member_->MissFleet(ask_);
    }
    pacer_->Heard(ask_, *reply_, dice_.Uniform());
    member_->HearFleet(ask_, *reply_);
  }

 private:
  static constexpr Nanos kPeriod = kSecond / 5;
  static constexpr Nanos kTimeout = kSecond / 10;
  static constexpr std::size_t kGroups = 32;

  void Ask(Nanos now) {
    pacer_->Sent(now);
    ask_ = member_->AskFleet(pacer_->period(),
                             std::min(kGroups, pacer_->groups()));
    FleetLedger* const ledger = engine_->At(process_, now);
    const Nanos way = FromSeconds(engine_->fault.reply);
    reply_ = ledger == nullptr
                 ? std::nullopt
                 : std::optional(ledger->Handle(ask_, now + way / 2));
    reply_at_ = now + (ledger == nullptr ? kTimeout : way);
  }

  std::shared_ptr<Engine> engine_;
  Dice dice_;
  std::size_t process_ = 0;
  std::shared_ptr<internal::FleetMember> member_;
  std::optional<internal::FleetPacer> pacer_;
  FleetAsk ask_;
  std::optional<FleetReply> reply_;
  Nanos reply_at_ = internal::kNever;  // when that is known
};

inline std::vector<std::unique_ptr<Sharing>> ShareLedger(
    const FleetOptions& options, std::uint64_t seed) {
  auto engine = std::make_shared<Engine>();
  engine->fault = options.fault;
  Dice dice(seed ^ 0x6c6564676572u);
  std::vector<std::unique_ptr<Sharing>> all;
  for (std::size_t i = 0; i < options.processes; ++i)
    all.push_back(std::make_unique<LedgerSharing>(engine, dice.Next()));
  return all;
}

template <class Policy>
class Fleet final : public Contender {
 public:
  Fleet(World& world, const FleetEntry& entry, const FleetOptions& options,
        std::uint64_t seed)
      : world_(world),
        options_(options),
        seed_(seed),
        processes_(options.processes),
        process_of_(world.requests.size()),
        next_death_(options.fault.die_every > 0
                        ? kStart + FromSeconds(options.fault.die_every)
                        : internal::kNever) {
    std::vector<std::unique_ptr<Sharing>> sharing;
    if (entry.make) sharing = entry.make(options, seed);
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      if (!sharing.empty()) processes_[i].sharing = std::move(sharing.at(i));
      Begin(processes_[i], i);
    }
    Dice dice(seed ^ 0x73706c6974u);
    for (std::size_t i = 0; i < process_of_.size(); ++i)
      process_of_[i] = Choose(world.requests[i].arrival, dice);
  }

  void Begin(std::size_t request) override {
    Process& process = ProcessOf(request);
    process.touched = true;
    process.ours->Begin(request);
  }
  void OnHead(std::size_t request, const HttpResponse& response) override {
    if (Process* process = Holder(request))
      process->ours->OnHead(request, response);
  }
  void OnAnswer(std::size_t request, HttpResponse response) override {
    if (response.status == 429) refused_at_.push_back(world_.now());
    if (Process* process = Holder(request))
      process->ours->OnAnswer(request, std::move(response));
  }
  void OnTimer(std::size_t request) override {
    if (Process* process = Holder(request)) process->ours->OnTimer(request);
  }

  std::optional<Nanos> AfterEvent() override {
    const Nanos now = world_.now();
    if (now >= next_death_) {
      next_death_ += FromSeconds(options_.fault.die_every);
      Die(deaths_++ % processes_.size());
    }
    Nanos next = next_death_;
    for (Process& process : processes_) {
      if (process.share_at <= now) {
        process.sharing->Run(now);
        process.touched = true;
      }
      if (process.touched || process.due <= now) {
        process.touched = false;
        process.due = process.ours->AfterEvent().value_or(internal::kNever);
        if (process.sharing) process.share_at = process.sharing->Due();
      }
      next = std::min({next, process.due, process.share_at});
    }
    return next;
  }

  std::size_t process_of(std::size_t request) const {
    return process_of_[request];
  }
  // When refusals came back, in the order of time.
  const std::vector<Nanos>& refused_at() const { return refused_at_; }

 private:
  struct Process {
    std::unique_ptr<Ours<Policy>> ours;
    std::unique_ptr<Sharing> sharing;
    bool touched = true;  // something happened to it
    Nanos due = internal::kNever;
    Nanos share_at = internal::kNever;
  };

  void Begin(Process& process, std::size_t number) {
    // The first of one process is the same as one that is no fleet.
    const std::uint64_t seed =
        seed_ ^ ((number + deaths_) * 0x9e3779b97f4a7c15u);
    auto ours = std::make_unique<Ours<Policy>>(world_, Rules(), seed, Policy());
    if (process.sharing)
      process.sharing->Began(number, ours->rotator().fleet_member());
    process.ours = std::move(ours);
    process.touched = true;
  }

  void Die(std::size_t number) {
    Process& process = processes_[number];
    for (const std::size_t request : process.ours->Open()) {
      world_.Finish(request, false);
      is_lost_.resize(process_of_.size());
      is_lost_[request] = true;
    }
    Begin(process, number);
  }

  std::size_t Choose(Nanos arrival, Dice& dice) const {
    const std::size_t all = options_.processes;
    if (options_.split == Split::kEqual || all == 1) return dice.Below(all);
    std::size_t heavy = 0;
    if (options_.split == Split::kMoving)
      heavy = static_cast<std::size_t>((arrival - kStart) / (60 * kSecond));
    if (dice.Uniform() < 0.8) return heavy % all;
    return (heavy + 1 + dice.Below(all - 1)) % all;
  }

  Process& ProcessOf(std::size_t request) {
    return processes_[process_of_[request]];
  }
  // Who goes on with it, or null where that has died; it is touched.
  Process* Holder(std::size_t request) {
    if (!is_lost_.empty() && is_lost_[request]) return nullptr;
    Process& process = ProcessOf(request);
    process.touched = true;
    return &process;
  }

  World& world_;
  const FleetOptions options_;
  const std::uint64_t seed_;
  std::vector<Process> processes_;
  std::vector<std::size_t> process_of_;
  std::vector<bool> is_lost_;
  Nanos next_death_;
  std::size_t deaths_ = 0;
  std::vector<Nanos> refused_at_;
};

// Sums over the seeds, as Figures.
struct FleetFigures {
  Figures all = {};
  // What the process gets that gets the least of what it was asked for, of the
  // mean of all.
  double worst = 1;
  // Of what arrived while the engine was away, and the 429s in that time and in
  // the ten seconds after it.
  double away_served = 0;
  double away_oracle = 0;
  double away_refused = 0;
  double after_refused = 0;
  // Of the requests served, those by the key that serves most of their session;
  // and what the key got that got the least for its weight, as a part of what
  // its weight is of all. 1 where there are no sessions, no weights.
  double home = 1;
  double weighted = 1;

  void Add(const FleetFigures& other) {
    all.Add(other.all);
    worst = std::min(worst, other.worst);
    home = std::min(home, other.home);
    weighted = std::min(weighted, other.weighted);
    away_served += other.away_served;
    away_oracle += other.away_oracle;
    away_refused += other.away_refused;
    after_refused = std::max(after_refused, other.after_refused);
  }
};

// See FleetFigures::home.
inline double AtHome(const Simulation& simulation) {
  const Cell& cell = simulation.cell;
  std::vector<std::vector<double>> sessions(
      cell.sessions, std::vector<double>(cell.pool.keys.size()));
  double all = 0;
  for (std::size_t i = 0; i < simulation.requests.size(); ++i) {
    const Fate& fate = simulation.fates()[i];
    if (!fate.served) continue;
    ++sessions[simulation.requests[i].session][fate.key];
    ++all;
  }
  double home = 0;
  for (const std::vector<double>& keys : sessions)
    home += *std::max_element(keys.begin(), keys.end());
  return home / all;
}

// See FleetFigures::weighted.
inline double ByWeight(const Simulation& simulation) {
  const std::vector<double>& weights = simulation.cell.pool.weights;
  std::vector<double> keys(weights.size());
  double all = 0;
  for (const Fate& fate : simulation.fates()) {
    if (!fate.served) continue;
    ++keys[fate.key];
    ++all;
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  double least = 1;
  for (std::size_t i = 0; i < keys.size(); ++i)
    least = std::min(least, keys[i] / all / (weights[i] / sum));
  return least;
}

template <class Policy>
FleetFigures MeasureFleetBy(const Cell& cell, const FleetEntry& entry,
                            const FleetOptions& options, std::uint64_t seed) {
  const std::vector<Request> requests = MakeRequests(cell, seed);
  const OracleResult oracle = AskOracle(cell, requests, seed);
  const double begin = CpuSeconds();
  Simulation simulation(cell, requests, seed);
  Fleet<Policy> fleet(simulation, entry, options, seed);
  simulation.Run(fleet);

  FleetFigures figures{.all = FiguresOf(simulation, oracle)};
  figures.all.cpu = CpuSeconds() - begin;
  if (cell.sessions > 0) figures.home = AtHome(simulation);
  if (!cell.pool.weights.empty()) figures.weighted = ByWeight(simulation);
  std::vector<double> asked(options.processes);
  std::vector<double> got(options.processes);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const bool served = simulation.fates()[i].served;
    const std::size_t process = fleet.process_of(i);
    ++asked[process];
    if (served) ++got[process];
    if (!options.fault.IsAt(requests[i].arrival)) continue;
    if (served) ++figures.away_served;
    if (oracle.waits[i] >= 0) ++figures.away_oracle;
  }
  for (std::size_t i = 0; i < options.processes; ++i) {
    // Of fewer chance decides.
    if (asked[i] < 20) continue;
    const double mean = figures.all.served_requests / figures.all.requests;
    figures.worst = std::min(figures.worst, got[i] / asked[i] / mean);
  }
  for (const Nanos at : fleet.refused_at()) {
    if (options.fault.IsAt(at)) {
      ++figures.away_refused;
    } else if (options.fault.IsAfter(at)) {
      ++figures.after_refused;
    }
  }
  return figures;
}

// By the policy that the cell is about.
inline FleetFigures MeasureFleet(const Cell& cell, const FleetEntry& entry,
                                 const FleetOptions& options,
                                 std::uint64_t seed) {
  if (cell.sessions > 0)
    return MeasureFleetBy<Affinity<>>(cell, entry, options, seed);
  if (!cell.pool.weights.empty())
    return MeasureFleetBy<WeightedRoundRobin>(cell, entry, options, seed);
  return MeasureFleetBy<MostHeadroom>(cell, entry, options, seed);
}

// --- The table ---

inline FleetEntry Alone() { return {"alone"}; }
inline FleetEntry WithLedger() { return {"ledger", ShareLedger}; }
inline std::vector<FleetEntry> FleetEntries() {
  return {Alone(), WithLedger()};
}

// 400 sessions, each of which belongs to one key.
inline Cell BySessions(Style style, double load) {
  Cell cell = Named(MakeCell(EightEqual(), style, load, false));
  cell.sessions = 400;
  cell.name += ", by affinity";
  return cell;
}

// Half of the keys are to get twice as much as the others.
inline Cell ByWeights(Style style, double load) {
  Cell cell = Named(MakeCell(EightEqual(), style, load, false));
  cell.pool.weights = {1, 2, 1, 2, 1, 2, 1, 2};
  cell.name += ", by weight";
  return cell;
}

// What is limited in how many ways, and said of in how many words.
inline std::vector<Cell> FleetCells() {
  using enum Style;
  std::vector<Cell> cells;
  for (const Pool& pool :
       {EightEqual(), EightUnequal(), ThreeOrganisations(), TwoModels(),
        EightOfFive(), EightOfOne(), TwoHundred()}) {
    for (const Style style : {kOpenAI, kNothing})
      cells.push_back(MakeCell(pool, style, 1.2, false));
  }
  for (const Style style : {kOpenAI, kNothing})
    cells.push_back(WithUnseen(MakeCell(EightEqual(), style, 1.2, false)));
  cells.push_back(MakeCell(EightByTokens(), kOpenAI, 1.2, false));
  for (const double load : {0.95, 1.2}) {
    for (const Style style : {kOpenAI, kNothing})
      cells.push_back(MakeCell(EightOfTwenty(), style, load, false));
  }
  cells.push_back(MakeCell(EightEqual(), kGemini, 1.2, false));
  for (Cell& cell : cells) cell = Named(cell);
  for (const double load : {0.6, 0.95, 1.2}) {
    for (const Style style : {kOpenAI, kNothing}) {
      cells.push_back(BySessions(style, load));
      cells.push_back(ByWeights(style, load));
    }
  }
  return cells;
}

inline Fault Brief() {
  return {.name = "away each minute for 2 s",
          .away_from = 60,
          .away_to = 62,
          .again_every = 60};
}

// No fault first.
inline std::vector<Fault> Faults() {
  return {
      {},
      {.name = "away for 30 s", .away_from = 600, .away_to = 630},
      {.name = "away for 120 s", .away_from = 600, .away_to = 720},
      {.name = "away for 600 s", .away_from = 600, .away_to = 1200},
      {.name = "comes back empty",
       .away_from = 600,
       .away_to = 605,
       .comes_back_empty = true},
      {.name = "empty each minute after 0.5 s",
       .away_from = 60,
       .away_to = 60.5,
       .again_every = 60,
       .comes_back_empty = true},
      {.name = "empty each minute after 2 s",
       .away_from = 60,
       .away_to = 62,
       .again_every = 60,
       .comes_back_empty = true},
      Brief(),
      {.name = "first cut off for 300 s",
       .away_from = 600,
       .away_to = 900,
       .first_alone = true},
      {.name = "replies take 1 s", .reply = 1},
      {.name = "one dies every 20 s", .die_every = 20},
  };
}

// A row, and what must hold in it. 0: nothing is asked.
struct FleetRow {
  Cell cell;
  FleetEntry entry;
  FleetOptions options;
  std::size_t seeds = 1;
  double least_served = 0;
  double most_waste = 0;
  double least_home = 0;
  double most_wait = 0;  // of 99 %, in seconds
  FleetFigures figures = {};
};

inline std::string JudgeFleet(const FleetRow& row) {
  std::string faults;
  if (row.figures.all.Share() < row.least_served)
    faults += fmt::format(" served < {}", row.least_served);
  if (row.most_waste > 0 && row.figures.all.Waste() > row.most_waste)
    faults += fmt::format(" 429s > {}", row.most_waste);
  if (row.figures.home < row.least_home)
    faults += fmt::format(" at home < {}", row.least_home);
  if (row.most_wait > 0 && row.figures.all.p99 > row.most_wait)
    faults += fmt::format(" p99 > {} s", row.most_wait);
  return faults;
}

// A few for each change. A fleet without an engine wastes little where it is
// small, and serves nearly all that it could; with one it does whatever its size
// is, whatever happens to the engine.
inline std::vector<FleetRow> CheckedFleetRows() {
  using enum Style;
  std::vector<FleetRow> rows;
  const auto row = [&](const Pool& pool, Style style, const FleetEntry& entry,
                       const FleetOptions& options, double served,
                       double waste) {
    rows.push_back({.cell = Named(MakeCell(pool, style, 1.2, false)),
                    .entry = entry,
                    .options = options,
                    .least_served = served,
                    .most_waste = waste});
  };
  const auto add = [&](Style style, std::size_t processes, Split split,
                       double served, double waste) {
    row(EightEqual(), style, Alone(), {.processes = processes, .split = split},
        served, waste);
  };
  // Where each takes all that flows back for its own, 0.009, 0.40 and 0.007.
  add(kOpenAI, 4, Split::kEqual, 0.995, 0.002);
  add(kOpenAI, 32, Split::kEqual, 0.99, 0.13);
  add(kOpenAI, 4, Split::kMoving, 0.985, 0.002);
  add(kNothing, 4, Split::kEqual, 0.99, 0.04);
  add(kNothing, 32, Split::kEqual, 0.985, 0.2);

  const FleetEntry ledger = WithLedger();
  for (const std::size_t processes : {4U, 32U}) {
    const FleetOptions equal{.processes = processes};
    const FleetOptions one{.processes = processes, .split = Split::kOne};
    for (const FleetOptions& options : {equal, one}) {
      row(EightEqual(), kOpenAI, ledger, options, 0.995, 0.002);
      row(EightEqual(), kNothing, ledger, options, 0.995, 0.02);
    }
  }
  const FleetOptions many{.processes = 32};
  row(EightByTokens(), kOpenAI, ledger, many, 0.985, 0.01);
  row(EightFast(), kNothing, ledger, many, 0.995, 0.02);
  row(OneKey(), kNothing, ledger, many, 0.98, 0.03);
  for (const double load : {0.6, 0.95}) {
    rows.push_back({.cell = BySessions(kOpenAI, load),
                    .entry = ledger,
                    .options = many,
                    .least_served = 0.999,
                    .most_waste = 0.002,
                    .least_home = load < 0.9 ? 0.99 : 0.93});
  }
  for (const Fault& fault : Faults()) {
    if (fault.name.empty()) continue;
    const FleetOptions options{.processes = 32, .fault = fault};
    row(EightEqual(), kOpenAI, ledger, options, 0.99, 0.01);
    // A pace that was handed on is probed anew: 4 % less for some minutes.
    const bool forgets = fault.comes_back_empty && fault.again_every > 0;
    row(EightEqual(), kNothing, ledger, options, forgets ? 0.9 : 0.99, 0.12);
  }
  row(EightEqual(), kNothing, ledger,
      {.processes = 32, .split = Split::kMoving, .fault = Faults()[2]}, 0.99,
      0.03);
  // Below what the keys allow nobody waits, whatever happens to the engine. Where
  // each process keeps to its lease until that is over, 0.7 s.
  for (const Style style : {kOpenAI, kNothing}) {
    rows.push_back(
        {.cell = Named(MakeCell(EightOfTwenty(), style, 0.95, false)),
         .entry = ledger,
         .options = {.processes = 4, .fault = Brief()},
         .least_served = 0.999,
         .most_waste = 0.002,
         .most_wait = 0.1});
  }
  return rows;
}

struct FleetTable {
  std::string text;
  std::size_t faults = 0;
};

// Of rows that are measured.
inline FleetTable TableOf(const std::vector<FleetRow>& rows) {
  FleetTable table;
  table.text =
      fmt::format("  {:<10}{:<8}{:<16}{:<24}{:>8}{:>10}{:>7}{:>7}{:>7}{:>7}\n",
                  "fleet of", "split", "sharing", "fault", "served", "429s",
                  "worst", "p50 s", "p99 s", "cpu s");
  std::string cell;
  for (const FleetRow& row : rows) {
    if (row.cell.name != cell) table.text += row.cell.name + "\n";
    cell = row.cell.name;
    const FleetFigures& figures = row.figures;
    std::string away;
    if (figures.away_oracle > 0)
      away = fmt::format(
          "  while away: served {:.3f}, 429s {:.3f}, then {:.0f} of them",
          figures.away_served / figures.away_oracle,
          figures.away_refused / std::max(figures.away_served, 1.0),
          figures.after_refused);
    if (row.cell.sessions > 0)
      away += fmt::format("  at home {:.3f}", figures.home);
    if (!row.cell.pool.weights.empty())
      away += fmt::format("  by weight {:.3f}", figures.weighted);
    const std::string faults = JudgeFleet(row);
    if (!faults.empty()) ++table.faults;
    table.text += fmt::format(
        "  {:<10}{:<8}{:<16}{:<24}{:8.4f}{:10.4f}{:7.2f}{:7.1f}{:7.1f}{:7.2f}{}"
        "{}{}\n",
        row.options.processes, ToString(row.options.split), row.entry.name,
        row.options.fault.name, figures.all.Share(), figures.all.Waste(),
        figures.worst, figures.all.p50, figures.all.p99, figures.all.cpu, away,
        faults.empty() ? "" : "  SHORT:", faults);
  }
  return table;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_FLEET_H_
