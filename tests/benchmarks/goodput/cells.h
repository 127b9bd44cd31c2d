// File: cells.h
//
// The cells of the table, and who competes in which.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_CELLS_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_CELLS_H_

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "tests/benchmarks/goodput/contenders.h"
#include "tests/benchmarks/goodput/provider.h"
#include "tests/benchmarks/goodput/workload.h"

namespace keyrotator::goodput {

// A key an organisation.
inline Pool KeysOf(std::string name, std::vector<Quota> quotas) {
  Pool pool{
      .name = std::move(name), .organisations = std::move(quotas), .keys = {}};
  for (std::size_t i = 0; i < pool.organisations.size(); ++i)
    pool.keys.push_back(i);
  return pool;
}

inline Pool EightEqual() { return KeysOf("8 equal", std::vector<Quota>(8)); }
inline std::vector<Quota> UnequalQuotas(double smallest, double seconds) {
  std::vector<Quota> quotas;
  for (const double share : {1, 1, 2, 4, 8, 8, 16, 32})
    quotas.push_back({.requests = smallest * share, .seconds = seconds});
  return quotas;
}
inline Pool EightUnequal() {
  return KeysOf("8 unequal", UnequalQuotas(10, 60));
}
// What a burst uses up, so that it matters who is asked before.
inline Pool EightUnequalSmall() {
  return KeysOf("8 unequal of 10 s", UnequalQuotas(5, 10));
}
inline Pool ThreeOrganisations() {
  return {.name = "12 in 3 orgs",
          .organisations = std::vector<Quota>(3, {.requests = 240}),
          .keys = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2}};
}
inline Pool TwoModels() {
  Pool pool = EightEqual();
  pool.name = "2 models";
  pool.models = {1, 0.25};
  return pool;
}
inline Pool OneKey() { return KeysOf("1 key", std::vector<Quota>(1)); }
inline Pool TwoHundred() {
  return KeysOf("200 keys", std::vector<Quota>(200, {.requests = 12}));
}
// Each may do so much in a minute, and 1,000 in a day.
inline Pool FourByDay() {
  return KeysOf("4 by day", std::vector<Quota>(4, {.per_day = 1000}));
}
// Where what happens on the way to the provider matters more.
inline Pool EightFast() {
  return KeysOf("8 fast", std::vector<Quota>(8, {.requests = 600}));
}
// Buckets that hold no more than what flows back in one or five seconds.
inline Pool EightOfFive() {
  return KeysOf("8 of 5 s",
                std::vector<Quota>(8, {.requests = 5, .seconds = 5}));
}
inline Pool EightOfTwenty() {
  return KeysOf("8 of 4 s",
                std::vector<Quota>(8, {.requests = 20, .seconds = 4}));
}
inline Pool EightOfOne() {
  return KeysOf("8 of 1 s",
                std::vector<Quota>(8, {.requests = 1, .seconds = 1}));
}
// Enough requests, and tokens for as many as elsewhere.
inline Pool EightByTokens() {
  return KeysOf("8 by tokens",
                std::vector<Quota>(8, {.requests = 600, .tokens = 60'000}));
}

inline Cell MakeCell(Pool pool, Style style, double load, bool bursty) {
  Cell cell{.name = {}, .pool = std::move(pool)};
  cell.provider.style = style;
  cell.provider.fixed_windows = style == Style::kGemini;
  cell.load = load;
  cell.bursty = bursty;
  if (cell.pool.organisations[0].tokens > 0) cell.mean_cost = 1000;
  // As many requests as others have in an hour, or more.
  if (AllowedPerSecond(cell.pool, cell.mean_cost) > 30) cell.seconds = 1200;
  if (HasDays(cell.pool)) cell.seconds = kDaySeconds;
  // To learn a pace costs about five refusals a key, here of 240 requests.
  if (cell.pool.keys.size() > 100 && style != Style::kOpenAI) cell.bound = true;
  return cell;
}

inline Cell Named(Cell cell) {
  const ProviderOptions& provider = cell.provider;
  cell.name =
      fmt::format("{}{}{}{}{}{}, {}, {}{}", cell.pool.name,
                  provider.unseen > 0
                      ? fmt::format(", {:.0f} % unseen", provider.unseen * 100)
                      : "",
                  provider.refused_count ? ", refused count" : "",
                  provider.fixed_windows ? ", windows" : "",
                  cell.cost_error > 1 ? ", costs guessed" : "",
                  provider.flapping_keys > 0 ? ", 1 flaps" : "",
                  ToString(provider.style), cell.load, cell.bursty ? "B" : "P");
  return cell;
}

inline Cell WithUnseen(Cell cell) {
  cell.provider.unseen = 0.3;
  return cell;
}
inline Cell WithRefusedCounted(Cell cell) {
  cell.provider.refused_count = true;
  // Without a word of what is left each probe costs what it asks for.
  cell.bound = cell.provider.style != Style::kOpenAI;
  return cell;
}
inline Cell WithAtLeast(double share, Cell cell) {
  cell.at_least = share;
  return cell;
}
inline Cell AsBound(Cell cell) {
  cell.bound = true;
  return cell;
}
inline Cell WithGuessedCosts(Cell cell) {
  cell.cost_error = 1.3;
  return cell;
}
inline Cell WithFlapping(Cell cell) {
  cell.provider.flapping_keys = 1;
  cell.sessions = 400;
  return cell;
}

// Where the contenders differ.
inline std::vector<Cell> TellingCells() {
  using enum Style;
  std::vector<Cell> cells = {
      MakeCell(EightEqual(), kOpenAI, 1.2, false),
      MakeCell(EightUnequal(), kOpenAI, 0.95, true),
      MakeCell(EightUnequalSmall(), kOpenAI, 0.95, true),
      WithUnseen(MakeCell(EightEqual(), kOpenAI, 1.2, false)),
      MakeCell(TwoHundred(), kOpenAI, 1.2, false),
      MakeCell(EightFast(), kOpenAI, 1.2, true),
      WithRefusedCounted(MakeCell(EightEqual(), kOpenAI, 1.2, false)),
      MakeCell(EightEqual(), kRetryAfter, 2, false),
      MakeCell(ThreeOrganisations(), kRetryAfter, 1.2, false),
      MakeCell(TwoModels(), kOpenAI, 1.2, false),
      MakeCell(EightEqual(), kGemini, 1.2, false),
      MakeCell(EightEqual(), kNothing, 1.2, false),
      MakeCell(EightUnequal(), kNothing, 0.95, true),
      MakeCell(OneKey(), kOpenAI, 1.2, true),
      MakeCell(OneKey(), kNothing, 1.2, false),
      MakeCell(EightByTokens(), kOpenAI, 1.2, false),
  };
  for (Cell& cell : cells) cell = Named(cell);
  return cells;
}

inline std::vector<Cell> AllCells() {
  using enum Style;
  std::vector<Cell> cells;
  const auto add = [&](const Pool& pool, Style style, auto change) {
    for (const double load : {0.95, 1.2, 2.0}) {
      for (const bool bursty : {false, true})
        cells.push_back(Named(change(MakeCell(pool, style, load, bursty))));
    }
  };
  const auto as_is = [](Cell cell) { return cell; };
  for (const Pool& pool : {EightEqual(), EightUnequal(), ThreeOrganisations(),
                           TwoModels(), OneKey(), TwoHundred()}) {
    for (const Style style : {kOpenAI, kRetryAfter, kNothing})
      add(pool, style, as_is);
  }
  for (const Style style : {kOpenAI, kRetryAfter, kNothing})
    add(EightEqual(), style, WithUnseen);
  for (const Style style : {kAnthropic, kAzure, kGemini})
    add(EightEqual(), style, as_is);
  for (const Style style : {kOpenAI, kNothing})
    add(EightEqual(), style, WithRefusedCounted);
  for (const Style style : {kOpenAI, kAnthropic})
    add(EightByTokens(), style, as_is);
  add(EightByTokens(), kOpenAI, WithGuessedCosts);
  for (const Pool& pool : {EightOfFive(), EightOfOne()}) {
    for (const Style style : {kOpenAI, kRetryAfter, kNothing})
      add(pool, style, AsBound);
  }
  // Spent for a part of the day, and for nearly all of it.
  for (const double load : {4, 16}) {
    for (const bool bursty : {false, true})
      cells.push_back(Named(MakeCell(FourByDay(), kNothing, load, bursty)));
  }
  for (const double load : {0.5, 0.8}) {
    for (const bool bursty : {false, true}) {
      for (const Pool& pool : {EightEqual(), EightUnequal()}) {
        for (const Style style : {kOpenAI, kNothing})
          cells.push_back(Named(MakeCell(pool, style, load, bursty)));
      }
    }
  }
  return cells;
}

// As many as that at once, or over a second, on keys of which nothing is known.
inline Cell MakeBatchCell(Pool pool, Style style, Batch batch,
                          double latency = 0.8, double head = 0) {
  Cell cell = MakeCell(std::move(pool), style, 1, false);
  cell.batch = batch;
  cell.latency = latency;
  cell.head = head;
  cell.patience = 300;
  cell.name = fmt::format(
      "{}, {}, {} at {}", cell.pool.name, ToString(style), batch.requests,
      batch.seconds > 0 ? fmt::format("{} s", batch.seconds) : "once");
  if (latency != 0.8) cell.name += fmt::format(", answers of {} s", latency);
  if (head > 0) cell.name += fmt::format(", heads after {} s", head);
  return cell;
}

inline std::vector<Cell> BatchCells() {
  using enum Style;
  const Pool eight = EightEqual();
  const Pool fast = EightFast();
  const Pool small = EightOfFive();
  const Pool three = KeysOf(
      "3 of 20/s", std::vector<Quota>(3, {.requests = 5, .seconds = 0.25}));
  std::vector<Cell> cells;
  for (const double over : {0.0, 1.0}) {
    const auto add = [&](const Pool& pool, Style style, std::size_t requests,
                         double waste, double mean, double last,
                         double latency = 0.8, double head = 0) {
      cells.push_back(MakeBatchCell(pool, style,
                                    {.requests = requests,
                                     .seconds = over,
                                     .most_waste = waste,
                                     .most_mean = mean,
                                     // The oracle's is up to a second less.
                                     .most_last = last + 0.7 * over},
                                    latency, head));
    };
    add(eight, kOpenAI, 700, 0.03, 1.2, 2);
    add(eight, kNothing, 700, 0.15, 1.5, 2.75);
    add(eight, kRetryAfter, 700, 0.15, 1.5, 2.75);
    add(fast, kOpenAI, 7000, 0.03, 1.2, 2);
    // From 4 to 600 in steps of two takes seven answers' time.
    add(fast, kNothing, 7000, 0.15, 2.3, 2.75);
    add(small, kOpenAI, 250, 0.1, 1.2, 2);
    add(small, kNothing, 250, 0.4, 1.7, 2.62);
    add(OneKey(), kOpenAI, 90, 0.1, 1.5, 3);
    add(OneKey(), kNothing, 90, 0.16, 1.5, 3);
    add(three, kOpenAI, 300, 0.1, 1.2, 2);
    add(three, kNothing, 300, 0.5, 2, 2.25);
    add(three, kNothing, 300, 0.5, 2, 2.25, 0.05);
    // Headers that come with answers that take 10 s are late.
    add(eight, kOpenAI, 700, 0.1, 2.5, 2.75, 10);
    add(eight, kNothing, 700, 0.15, 2.5, 2.75, 10);
    // Streams are answered long before they end.
    add(eight, kOpenAI, 700, 0.03, 1.2, 2, 10, 0.5);
    // Fewer than the first window: nobody waits.
    add(eight, kNothing, 30, 0, 0, 0);
    // A window that is used up is back after a minute at the latest, or not.
    add(eight, kGemini, 700, 0.15, 3.5, 13);
    // The last key to have one left is found late.
    add(TwoHundred(), kOpenAI, 3000, 0.08, 2, 8);
    add(TwoHundred(), kNothing, 3000, 0.5, 2, 8);
  }
  return cells;
}

// A batch that takes all it can get, and people beside it.
inline std::vector<Cell> MixedCells() {
  using enum Style;
  std::vector<Cell> cells;
  for (const Style style : {kOpenAI, kNothing}) {
    for (const Pool& pool : {EightEqual(), EightFast(), EightOfFive(), OneKey(),
                             EightUnequal(), TwoModels()}) {
      Cell cell = MakeCell(pool, style, 1.2, false);
      cell.interactive = 0.2;
      cell.seconds = std::min(cell.seconds, 1800.0);
      cell = Named(std::move(cell));
      cell.name += ", people beside it";
      // Without a word a key is known to be empty when it refuses a person.
      cell.bound = pool.keys.size() == 1 && style == kNothing;
      cells.push_back(std::move(cell));
    }
  }
  Cell tokens = MakeCell(EightByTokens(), kOpenAI, 1.2, false);
  tokens.interactive = 0.2;
  tokens = Named(std::move(tokens));
  tokens.name += ", people beside it";
  cells.push_back(std::move(tokens));
  return cells;
}

inline Cell AffinityCell() {
  return Named(
      WithFlapping(MakeCell(EightEqual(), Style::kOpenAI, 0.5, false)));
}

// A few, for a change to be checked in seconds: each of the rules is at work in
// one of them at least.
inline std::vector<Cell> CheckedCells() {
  using enum Style;
  std::vector<Cell> cells = {
      MakeCell(EightEqual(), kOpenAI, 0.95, false),
      MakeCell(EightEqual(), kOpenAI, 1.2, false),
      // By turns, or by what is left instead of its share, it is 0.997.
      WithAtLeast(0.9985, MakeCell(EightUnequal(), kOpenAI, 1.2, false)),
      MakeCell(EightUnequal(), kOpenAI, 1.2, true),
      MakeCell(EightUnequalSmall(), kOpenAI, 0.95, true),
      MakeCell(EightFast(), kOpenAI, 1.2, false),
      MakeCell(TwoHundred(), kOpenAI, 1.2, false),
      MakeCell(EightEqual(), kAnthropic, 1.2, false),
      MakeCell(EightEqual(), kAzure, 1.2, false),
      WithUnseen(MakeCell(EightEqual(), kOpenAI, 1.2, false)),
      WithRefusedCounted(MakeCell(EightEqual(), kOpenAI, 1.2, false)),
      MakeCell(EightEqual(), kRetryAfter, 2, false),
      MakeCell(ThreeOrganisations(), kRetryAfter, 1.2, false),
      MakeCell(TwoModels(), kOpenAI, 1.2, false),
      MakeCell(EightEqual(), kGemini, 1.2, false),
      MakeCell(EightEqual(), kNothing, 1.2, true),
      MakeCell(OneKey(), kNothing, 1.2, false),
      MakeCell(EightByTokens(), kOpenAI, 1.2, false),
      MakeCell(FourByDay(), kNothing, 4, false),
      MakeCell(FourByDay(), kNothing, 16, true),
  };
  for (Cell& cell : cells) cell = Named(cell);
  return cells;
}

// Whose figures are held to what must be.
inline Entry ByHeadroom() {
  return OursWith<MostHeadroom>("keyrotator, MostHeadroom");
}
inline Entry WithoutPriorities() {
  Rules rules;
  rules.priorities = false;
  return OursWith<MostHeadroom>("without priorities", rules);
}
inline Entry InTurn() { return OursWith<RoundRobin>("keyrotator, RoundRobin"); }
inline Entry ByAffinity() {
  return OursWith<Affinity<>>("keyrotator, Affinity");
}

inline std::vector<Entry> OtherEntries() {
  return {
      Others<NaiveRoundRobin>("round-robin, SDK backoff"),
      Others<FixedCooldown>("60 s cooldown, sleeps"),
      Others<RandomCooldown>("random, 5 s cooldown"),
      Others<OrderedFallback>("ordered fallback"),
  };
}

// What each policy is worth.
inline std::vector<Entry> OtherPolicies() {
  return {OursWith<WeightedRoundRobin>("WeightedRoundRobin"),
          OursWith<LeastInFlight>("LeastInFlight"),
          OursWith<FirstAvailable>("FirstAvailable"),
          OursWith<Random>("Random")};
}

// What each rule is worth: what is left without it, where it is at work.
struct Ablation {
  Entry entry;
  std::vector<Cell> cells;
};

inline std::vector<Ablation> Ablations() {
  using enum Style;
  std::vector<Ablation> ablations;
  const auto without = [&](const char* what, std::vector<Cell> cells,
                           auto change) {
    Rules rules;
    change(rules);
    for (Cell& cell : cells) cell = Named(cell);
    ablations.push_back(
        {OursWith<MostHeadroom>(fmt::format("without {}", what), rules),
         std::move(cells)});
  };
  const Cell headers = MakeCell(EightEqual(), kOpenAI, 1.2, false);
  const Cell nothing = MakeCell(EightEqual(), kNothing, 1.2, false);
  const Cell one_key = MakeCell(OneKey(), kNothing, 1.2, false);
  const Cell windows = MakeCell(EightEqual(), kGemini, 1.2, false);
  const Cell unseen = WithUnseen(headers);
  const Cell count = WithRefusedCounted(headers);
  const Cell tokens = MakeCell(EightByTokens(), kOpenAI, 1.2, false);
  const Cell models = MakeCell(TwoModels(), kOpenAI, 1.2, false);
  const Cell organisations =
      MakeCell(ThreeOrganisations(), kRetryAfter, 1.2, false);
  without("learned pace", {nothing, one_key, windows},
          [](Rules& rules) { rules.guess.learn_pace = false; });
  without("learned pace and trial", {one_key, windows}, [](Rules& rules) {
    rules.guess.learn_pace = false;
    rules.trial = false;
  });
  without("short guesses (60 s)", {nothing, one_key}, [](Rules& rules) {
    rules.guess.learn_pace = false;
    rules.guess.initial = std::chrono::seconds(60);
  });
  without("reading limits", {headers, unseen, count, tokens, models},
          [](Rules& rules) { rules.read_limits = false; });
  without("reading hints", {headers, windows, unseen, models, organisations},
          [](Rules& rules) { rules.read_hints = false; });
  without("reading either", {headers, count, unseen}, [](Rules& rules) {
    rules.read_limits = false;
    rules.read_hints = false;
  });
  without("groups", {organisations},
          [](Rules& rules) { rules.groups = false; });
  without("scopes", {models}, [](Rules& rules) { rules.scopes = false; });
  without("costs", {tokens}, [](Rules& rules) { rules.costs = false; });
  without("waiting", {headers, nothing, one_key},
          [](Rules& rules) { rules.wait = false; });
  without("more than 8 waiters", {headers, nothing},
          [](Rules& rules) { rules.max_waiters = 8; });
  return ablations;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_CELLS_H_
