// File: redis/ledger_script.h
//
// The fleet's ledger as a script for Redis. It is fleet/ledger.h, and what that uses
// of fleet/ and of pool/learned_pace.h, function by function under the same names, in
// milliseconds: a change there is a change here, and redis/twin_test.cc holds the two
// together.
//
// One hash, KEYS[1], is all that it touches:
//   meta            the layout, who was heard of, the time of the last message
//   m               what is known of whole keys
//   c:KEY           the permits of a key that has a cap
//   w:SCOPE         what is wanted there
//   a:SCOPE:GROUP   the account
// each a MessagePack array of numbers, and m one of such arrays with a name in
// front. It uses HLEN, HMGET, HSET, EXPIRE, UNLINK and TIME, and needs Redis 5, where a
// script may write after it asked the time.

#ifndef KEYROTATOR_REDIS_LEDGER_SCRIPT_H_
#define KEYROTATOR_REDIS_LEDGER_SCRIPT_H_

#include <string_view>

#include "keyrotator/fleet_messages.h"

namespace keyrotator::internal {

static_assert(FleetAsk::kLease == 2'000'000'000, "kLease of the script");

// What the hash and the arguments look like. Another layout has another hash.
inline constexpr std::string_view kLedgerLayout = "1";

// ARGV: see LedgerArguments. Returns one text: see ReadLedgerReply.
inline constexpr std::string_view kLedgerScript = R"lua(
local kLayout = 1
if tonumber(ARGV[1]) ~= kLayout then
  return redis.error_reply('KRVERSION this script has layout 1')
end
local key = KEYS[1]
local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local pack, unpack_doubles = struct.pack, struct.unpack

local kLease = 2000
local kTick = 1e-6
local kNanos = 1e6  -- in a millisecond
local kLongAgo = -1e15
-- A gate is told as that at most; the next message tells the rest.
local kDay = 86400000
local kYear = 366 * kDay
-- More fields than these are forgotten, as if Redis had started again: names
-- that are never used a second time must not fill it.
local kMostFields = 100000
-- As many as Lua's stack surely holds.
local kChunk = 1000

-- The fields of an account: of requests, and kTokens further on of tokens; ...
local kTokens = 8
local LIMIT, RATE, LEVEL, RESERVE, TOTAL = 1, 2, 3, 4, 5
local OUT = 6  -- slots: now, this, last
local AT, SKIPPED, EPOCH, GATE = 17, 18, 19, 20
-- ... and of its pace, if it ever had one.
local P_RATE, P_SEARCHING, P_SAMPLED, P_SAMPLED_TIME = 21, 22, 23, 24
local P_REFUSED, P_REFUSED_LEASE, P_PAUSE, P_OPENED = 25, 26, 27, 28
local P_LEASED, P_SERVED, P_IN_VAIN, P_VAIN_SINCE = 29, 30, 31, 32
local P_CREDIT, P_CREDIT_TIME, P_DOUBLINGS = 33, 34, 35

-- LearnedPace

local kGap = 2
local kMaxGap = 60000
local kInVain = 8
local kLongHint = 2000
local kWindow = 3
local kFade = 0.9
local kFadeOver = 20
local kEnough = 3
local kBelow = 0.005
local kSlowly = 2000
local kQuickly = 150
local kDoubling = 200
local kAhead = 1
local kMostSaved = 2
local kFaster = 1.5
local kLn2 = math.log(2)
local kSearchNone, kSearchRate, kSearchWindow = 0, 1, 2

local LearnedPace = {}

function LearnedPace.New(a)
  if a[P_RATE] then return end
  for i = P_RATE, P_DOUBLINGS do a[i] = 0 end
  a[P_REFUSED], a[P_OPENED], a[P_CREDIT_TIME] = kLongAgo, kLongAgo, kLongAgo
end

function LearnedPace.known(a) return (a[P_RATE] or 0) > 0 end

function LearnedPace.Speed(a)
  if a[P_SEARCHING] ~= kSearchNone then return a[P_RATE] end
  local n = a[P_SERVED]
  local probing = n / kQuickly
  return a[P_RATE] *
      (1 - kBelow + n / kSlowly + probing * probing * probing)
end

-- What comes in the next doubling.
function LearnedPace.Searched(a)
  return a[P_RATE] * kDoubling / kLn2 * 2 ^ a[P_DOUBLINGS]
end

function LearnedPace.Credit(a, now)
  local span = max(now - a[P_CREDIT_TIME], 0)
  if a[P_SEARCHING] ~= kSearchRate then
    return a[P_CREDIT] + LearnedPace.Speed(a) * span
  end
  local grown = 2 ^ min(span / kDoubling, 60) - 1
  return min(max(kMostSaved, a[P_CREDIT] + a[P_RATE] * span),
             a[P_CREDIT] + LearnedPace.Searched(a) * grown)
end

function LearnedPace.rate(a) return a[P_RATE] or 0 end

function LearnedPace.Flow(a, now)
  local credit = LearnedPace.Credit(a, now)
  if a[P_SEARCHING] == kSearchRate and credit < kMostSaved and
      now > a[P_CREDIT_TIME] then
    a[P_DOUBLINGS] = a[P_DOUBLINGS] + (now - a[P_CREDIT_TIME]) / kDoubling
  end
  a[P_CREDIT] = credit
  a[P_CREDIT_TIME] = max(a[P_CREDIT_TIME], now)
end

function LearnedPace.TakeLot(a, count, now)
  if not LearnedPace.known(a) then return end
  LearnedPace.Flow(a, now)
  a[P_CREDIT] = a[P_CREDIT] - count
  a[P_LEASED] = floor(max(0, a[P_LEASED] + count))
end

function LearnedPace.Succeed(a, now, count)
  if not LearnedPace.known(a) or count == 0 then return end
  LearnedPace.Flow(a, now)
  a[P_SERVED] = a[P_SERVED] + count
  if a[P_SEARCHING] == kSearchWindow and now > a[P_OPENED] then
    a[P_RATE] = max(a[P_RATE], 2 * a[P_SERVED] / (now - a[P_OPENED]))
  end
end

function LearnedPace.SetRate(a, rate) a[P_RATE] = max(rate, 1 / kMaxGap) end

function LearnedPace.Pause(a)
  return min(kGap / a[P_RATE], 2 * min(a[P_PAUSE], kMaxGap), kMaxGap)
end

function LearnedPace.is_spent(a)
  return a[P_IN_VAIN] > kInVain and
      a[P_REFUSED] - a[P_VAIN_SINCE] >= kMaxGap
end

function LearnedPace.Sample(a, number, time, now, was_spent)
  local served = a[P_SERVED]
  local since = a[P_REFUSED_LEASE]
  if was_spent and a[P_SAMPLED] >= kEnough then return true end
  if was_spent and served >= kEnough then
    a[P_SAMPLED], a[P_SAMPLED_TIME] = 0, 0
    since = a[P_OPENED]
  end
  if a[P_SAMPLED_TIME] > 0 and
      LearnedPace.Credit(a, now) > 4 + served / 10 then
    return true
  end
  local admitted = number > 0 and number - 1 or 0
  local till = number > 0 and time or now
  local span = max(till - since, kTick)
  if a[P_SEARCHING] == kSearchRate and admitted >= 1 then
    local open = max(till - a[P_OPENED], kTick)
    span = min(span, open + (admitted + 0.5) / a[P_RATE])
  end
  local is_faster = a[P_SEARCHING] == kSearchRate and admitted >= kEnough and
      admitted > kFaster * a[P_RATE] * span
  local fade = is_faster and 0 or kFade ^ (admitted / kFadeOver)
  a[P_SAMPLED] = a[P_SAMPLED] * fade + admitted
  a[P_SAMPLED_TIME] = a[P_SAMPLED_TIME] * fade + span
  LearnedPace.SetRate(a, (a[P_SAMPLED] + 0.5) / a[P_SAMPLED_TIME])
  return not is_faster
end

-- Without peers: what a ledger learns is of all.
function LearnedPace.Refuse(a, hint, guess, now, longest, number, time)
  local was_spent = LearnedPace.is_spent(a)
  a[P_IN_VAIN] = (hint > 0 or a[P_SERVED] > 0) and 0 or a[P_IN_VAIN] + 1
  if a[P_IN_VAIN] <= 1 then a[P_VAIN_SINCE] = now end
  local search = hint > kLongHint and kSearchWindow or kSearchRate
  if not LearnedPace.known(a) then
    a[P_SEARCHING] = search
    LearnedPace.SetRate(a, 1 / max(hint > 0 and hint or guess, kTick))
  else
    local found = LearnedPace.Sample(a, number, time, now, was_spent)
    a[P_SEARCHING] =
        (found and a[P_SAMPLED] >= kEnough) and kSearchNone or search
  end
  local first = a[P_REFUSED] == kLongAgo
  a[P_REFUSED] = now
  a[P_REFUSED_LEASE] = number > 0 and time or now
  a[P_LEASED], a[P_SERVED] = 0, 0
  if first then
    a[P_PAUSE] = hint > 0 and hint or guess
    return a[P_PAUSE]
  end
  if hint > kLongHint and hint * a[P_RATE] > kWindow then
    a[P_SEARCHING] = kSearchWindow
  end
  local in_vain = 0
  if LearnedPace.is_spent(a) then
    in_vain = min(2 * a[P_PAUSE], max(longest, kMaxGap))
  end
  a[P_PAUSE] = max(hint, LearnedPace.Pause(a), in_vain)
  return a[P_PAUSE]
end

function LearnedPace.RefuseInLots(a, hint, guess, now, longest)
  return LearnedPace.Refuse(a, hint, guess, now, longest,
                            min(a[P_LEASED], 3 * a[P_SERVED] + 6), now)
end

function LearnedPace.Seed(a, rate, now)
  if LearnedPace.known(a) then return end
  LearnedPace.New(a)
  LearnedPace.SetRate(a, rate)
  a[P_SAMPLED] = kEnough
  a[P_SAMPLED_TIME] = a[P_SAMPLED] / a[P_RATE]
  a[P_PAUSE] = kGap / a[P_RATE]
  a[P_REFUSED], a[P_REFUSED_LEASE] = now, now
  a[P_OPENED], a[P_CREDIT_TIME] = now, now
end

function LearnedPace.Skip(a, span)
  if not LearnedPace.known(a) then return end
  a[P_REFUSED] = a[P_REFUSED] + span
  a[P_REFUSED_LEASE] = a[P_REFUSED_LEASE] + span
  a[P_VAIN_SINCE] = a[P_VAIN_SINCE] + span
  a[P_OPENED] = a[P_OPENED] + span
  a[P_CREDIT_TIME] = a[P_CREDIT_TIME] + span
end

function LearnedPace.HoldUntil(a, till)
  a[P_OPENED] = max(a[P_OPENED], till)
  a[P_CREDIT] = 1
  a[P_CREDIT_TIME] = max(a[P_CREDIT_TIME], a[P_OPENED])
  a[P_DOUBLINGS] = kAhead
end

-- FleetLedger

local kReserve = 0.3
local kReserveFade = 0.98
local kSmall = 3
local kLate = 100
local kMost = 256
local kRoom = 0.25
local kNone = -1e9
local kSlack = 1e-9
local kUsualLimit = 60
local kUnlimited = 1e300

local kGeneration = 1024

local now_, slot_, skipped_, generation_, gathered_, period_

local function Born() return generation_ * kGeneration end
local function Gather(since) gathered_ = max(gathered_, since + kLease) end

-- From place i on: now, this, last.
local Slots = {}

function Slots.Turn(x, i, slot)
  local now = x[i]
  if slot == now then return end
  x[i + 2] = slot == now + 1 and x[i + 1] or 0
  x[i + 1] = 0
  x[i] = slot
end
function Slots.Take(x, i, slot, amount)
  if slot == x[i] then
    x[i + 1] = max(0, x[i + 1] - amount)
  elseif slot == x[i] - 1 then
    x[i + 2] = max(0, x[i + 2] - amount)
  end
end
function Slots.Put(x, i, amount) x[i + 1] = x[i + 1] + amount end
function Slots.Sum(x, i) return x[i + 1] + x[i + 2] end
function Slots.Clear(x, i) x[i + 1], x[i + 2] = 0, 0 end

-- From place d + 1 on.
local Dimension = {}

function Dimension.Most(a, d)
  local limit = a[d + LIMIT]
  return limit +
      min(a[d + RATE] * kLate, max(0, 1 + a[d + RESERVE] - limit))
end
function Dimension.Free(a, d)
  return a[d + LEVEL] - Slots.Sum(a, d + OUT) - a[d + RESERVE]
end

local Account = {}

function Account.is_limited(a)
  return a[LIMIT] > 0 or a[kTokens + LIMIT] > 0
end
function Account.is_small(a) return a[LIMIT] > 0 and a[LIMIT] < kSmall end
function Account.known(a)
  return (Account.is_limited(a) or LearnedPace.known(a)) and
      not Account.is_small(a)
end

-- What is stored, packed, and what was used of it.
local fields_, used_ = {}, {}

local function Load(name)
  local packed = fields_[name]
  return packed and cmsgpack.unpack(packed) or nil
end

local function FindWants(scope)
  local name = 'w:' .. scope
  local wants = used_[name]
  if not wants then
    wants = Load(name) or {-9, 0, 0, -9, 0, 0}
    used_[name] = wants
  end
  return wants
end

local function Find(scope, group)
  local name = 'a:' .. scope .. ':' .. group
  local a = used_[name]
  if not a then
    -- No epoch of a ledger that was lost is one of this.
    a = Load(name) or
        {0, 0, 0, 0, 0, -9, 0, 0, 0, 0, 0, 0, 0, -9, 0, 0,
         now_, skipped_, Born(), 0}
    used_[name] = a
  end
  local span = skipped_ - a[SKIPPED]
  if span > 0 then
    a[AT] = min(now_, a[AT] + span)
    LearnedPace.Skip(a, span)
    a[SKIPPED] = skipped_
  end
  for d = 0, kTokens, kTokens do
    Slots.Turn(a, d + OUT, slot_)
    if a[d + LIMIT] > 0 then
      a[d + LEVEL] = min(Dimension.Most(a, d),
                         a[d + LEVEL] + a[d + RATE] * max(0, now_ - a[AT]))
    end
  end
  a[AT] = now_
  return a
end

local function Report(a, d, limit, rate, level, reserve, foreign, counts,
                      least_reserve)
  if limit <= 0 or rate <= 0 then return end
  local is_first = a[d + LIMIT] <= 0
  a[d + LIMIT], a[d + RATE] = limit, rate
  a[d + RESERVE] = max(least_reserve, a[d + RESERVE] * kReserveFade, reserve)
  a[d + RESERVE] = min(a[d + RESERVE], limit / 2,
                       max(0, Dimension.Most(a, d) * (1 - kSlack) - 1))
  level = min(level - foreign, limit)
  if is_first or (counts and level < limit - 1e-6) then
    a[d + LEVEL] = level
  end
end

local function Refuse(a, hint, guess, longest, is_current, gathers)
  if hint > 0 then a[GATE] = max(a[GATE], now_ + hint) end
  if not is_current or Account.is_limited(a) then return end
  if gathers and not LearnedPace.known(a) then return end
  LearnedPace.New(a)
  local pause = LearnedPace.RefuseInLots(a, hint, guess, now_, longest)
  a[GATE] = max(a[GATE], now_ + pause)
  LearnedPace.HoldUntil(a, a[GATE])
  a[EPOCH] = a[EPOCH] + 1
  Slots.Clear(a, OUT)
  Slots.Clear(a, kTokens + OUT)
end

local kAnswer = '<' .. ('d'):rep(14)
local kFact = '<' .. ('d'):rep(12)

-- Returns the answer, but for the grants.
local function Hear(a, fact, gathers)
  local epoch, spent, spent_tokens, served, held, held_tokens, slot, seen,
      seen_tokens, seed_rate, refused, reported, at =
      unpack_doubles(kFact, fact)
  local is_current = epoch == a[EPOCH]
  local is_following = epoch >= Born() and epoch <= a[EPOCH] and
      slot >= slot_ - 1 and seen > 0
  local was_limited = Account.is_limited(a)
  if is_current then
    Slots.Take(a, OUT, slot, held)
    Slots.Take(a, kTokens + OUT, slot, held_tokens)
  end
  local foreign, foreign_tokens = 0, 0
  if is_following then
    foreign = max(0, a[TOTAL] - seen)
    foreign_tokens = max(0, a[kTokens + TOTAL] - seen_tokens)
  end
  a[TOTAL] = a[TOTAL] + spent
  a[LEVEL] = a[LEVEL] - spent
  a[kTokens + TOTAL] = a[kTokens + TOTAL] + spent_tokens
  a[kTokens + LEVEL] = a[kTokens + LEVEL] - spent_tokens
  if is_current and LearnedPace.known(a) then
    LearnedPace.TakeLot(a, spent - held, now_)
    LearnedPace.Succeed(a, now_, floor(served))
  end
  if reported == 1 then
    local counts = is_following or not was_limited
    local limit, rate, level, reserve
    limit, rate, level, reserve, at = unpack_doubles('<dddd', fact, at)
    Report(a, 0, limit, rate, level, reserve, foreign, counts, kReserve)
    limit, rate, level, reserve, at = unpack_doubles('<dddd', fact, at)
    Report(a, kTokens, limit, rate, level, reserve, foreign_tokens, counts, 0)
  end
  if seed_rate > 0 and not Account.known(a) and not gathers then
    LearnedPace.Seed(a, seed_rate, now_)
  end
  if refused == 1 then
    local hint, guess, longest = unpack_doubles('<ddd', fact, at)
    Refuse(a, hint, guess, longest, is_current, gathers)
  end
  local is_known = Account.known(a) and not gathers
  return pack(kAnswer, is_known and 1 or 0, a[EPOCH],
              a[TOTAL], a[kTokens + TOTAL], foreign, foreign_tokens,
              min(max(0, a[GATE] - now_), kDay),
              a[LIMIT], a[RATE], a[LEVEL],
              a[kTokens + LIMIT], a[kTokens + RATE], a[kTokens + LEVEL],
              Account.is_limited(a) and 0 or LearnedPace.rate(a))
end

-- What comes in a period, per millisecond.
local function FlowOf(a)
  if not LearnedPace.known(a) then return 0 end
  return (LearnedPace.Credit(a, now_ + period_) -
          LearnedPace.Credit(a, now_)) / period_
end

-- free, rate and limit of requests and tokens, and when it opens.
local function OfferOf(a)
  local opens = max(0, a[GATE] - now_)
  if not Account.known(a) or opens > period_ then
    return kNone, kNone, 0, 0, 0, 0, opens
  end
  local free, free_tokens = kUnlimited, kUnlimited
  local rate, rate_tokens = 0, 0
  local limit, limit_tokens = kUnlimited, kUnlimited
  if a[LIMIT] > 0 then
    free, rate, limit = Dimension.Free(a, 0) + kSlack, a[RATE], a[LIMIT]
  end
  if a[kTokens + LIMIT] > 0 then
    free_tokens = Dimension.Free(a, kTokens) + kSlack
    rate_tokens, limit_tokens = a[kTokens + RATE], a[kTokens + LIMIT]
  end
  if not Account.is_limited(a) then
    free = LearnedPace.Credit(a, now_) + kSlack
    rate = FlowOf(a)
    limit = kUsualLimit
  end
  return free, free_tokens, rate, rate_tokens, limit, limit_tokens, opens
end

local kNoGrants = pack('<d', 0)

-- Grants in order of when they are due, those that are alike as one: how many,
-- when, what they cost. Stable.
local function PackGrants(times, costs)
  local n = #times
  for i = 2, n do
    local time, cost = times[i], costs[i]
    local j = i - 1
    while j >= 1 and times[j] > time do
      times[j + 1], costs[j + 1] = times[j], costs[j]
      j = j - 1
    end
    times[j + 1], costs[j + 1] = time, cost
  end
  local runs = {}
  local i = 1
  while i <= n do
    local time, cost = times[i], costs[i]
    local first = i
    repeat i = i + 1 until times[i] ~= time or costs[i] ~= cost
    runs[#runs + 1] = pack('<ddd', i - first, time, cost)
  end
  return pack('<d', #runs) .. table.concat(runs)
end

-- Returns what is carried over, whether there is plenty, and the grants of each.
local function Share(want, want_tokens, all, all_tokens, carried, costs,
                     processes, accounts)
  local n = #accounts
  -- Of each offer; `room` is its headroom while a request may go out at once.
  local free, free_tokens, rate, rate_tokens = {}, {}, {}, {}
  local limit, limit_tokens, opens, room = {}, {}, {}, {}
  local kNever = -math.huge
  local there, there_tokens, coming, coming_tokens = 0, 0, 0, 0
  local counts_tokens = false
  for k = 1, n do
    local a = accounts[k]
    free[k], free_tokens[k], rate[k], rate_tokens[k], limit[k],
        limit_tokens[k], opens[k] = OfferOf(a)
    if free[k] ~= kNone then
      counts_tokens = counts_tokens or a[kTokens + LIMIT] > 0
      local flow = rate[k] * period_
      there = there + max(0, free[k])
      coming = coming + max(0, min(flow, flow + free[k]))
      flow = rate_tokens[k] * period_
      there_tokens = there_tokens + max(0, free_tokens[k])
      coming_tokens =
          coming_tokens + max(0, min(flow, flow + free_tokens[k]))
    end
    room[k] = (opens[k] > 0 or free[k] < 1) and kNever or
        min(free[k] / limit[k], free_tokens[k] / limit_tokens[k])
  end
  local mean = want > 0 and want_tokens / want or 0
  local idle = there / 2 / max(1, processes)
  local fair = all > 0 and (there + coming) * min(1, want / all) or 0
  if counts_tokens and mean > 0 then
    idle = min(idle, there_tokens / mean / 2 / max(1, processes))
    local part = all_tokens > 0 and (there_tokens + coming_tokens) *
        min(1, want_tokens / all_tokens) or 0
    fair = min(fair, part / mean)
  end
  fair = fair + carried
  local target = min(kMost, max(floor(idle), min(ceil(want), floor(fair))))
  local times, prices, count = {}, {}, {}
  for k = 1, n do count[k] = 0 end
  local given = 0
  local function give(k, due, cost)
    cost = min(cost, limit_tokens[k])
    given = given + 1
    local i = count[k] + 1
    count[k] = i
    if i == 1 then times[k], prices[k] = {}, {} end
    times[k][i], prices[k][i] = due, cost
    local left, left_tokens = free[k] - 1, free_tokens[k] - cost
    free[k], free_tokens[k] = left, left_tokens
    if opens[k] > 0 or left < 1 then
      room[k] = kNever
    else
      local x, y = left / limit[k], left_tokens / limit_tokens[k]
      room[k] = x < y and x or y
    end
  end
  -- One of each key that has enough left.
  for k = 1, n do
    local cost = costs[given + 1] or mean
    if room[k] >= kRoom and given < kMost and
        (free_tokens[k] >= cost or free_tokens[k] >= limit_tokens[k]) then
      give(k, 0, cost)
    end
  end
  while given < target do
    local cost = costs[given + 1] or mean
    local best, due_in, most = nil, 0, kNever
    for k = 1, n do
      local r = room[k]
      if r > most and
          (free_tokens[k] >= cost or free_tokens[k] >= limit_tokens[k]) then
        best, most = k, r
      end
    end
    if not best and given < want then
      -- In whole nanoseconds, so that what is due at the same time is that here
      -- and there, and the first of them is taken.
      due_in = period_ * kNanos + 1
      for k = 1, n do
        if free[k] ~= kNone then
          local due = 0
          local missing = 1 - free[k]
          if missing > 0 then due = missing / rate[k] end
          missing = min(cost, limit_tokens[k]) - free_tokens[k]
          if missing > 0 then due = max(due, missing / rate_tokens[k]) end
          due = floor(max(opens[k], due) * kNanos)
          if due < due_in then best, due_in = k, due end
        end
      end
      due_in = due_in / kNanos
    end
    if not best then break end
    give(best, due_in, cost)
  end
  local carry = want > 0 and
      max(0, min(1, fair - min(given, floor(fair)))) or 0
  local plenty = false
  local grants = {}
  for k = 1, n do
    plenty = plenty or (free[k] >= 1 and
                        free_tokens[k] >= min(mean, limit_tokens[k]))
    grants[k] = kNoGrants
    if count[k] > 0 then
      local cost = 0
      for i = 1, count[k] do cost = cost + prices[k][i] end
      Slots.Put(accounts[k], OUT, count[k])
      Slots.Put(accounts[k], kTokens + OUT, cost)
      grants[k] = PackGrants(times[k], prices[k])
    end
    LearnedPace.TakeLot(accounts[k], count[k], now_)
  end
  return carry, plenty, grants
end

-- FleetPermitLedger: wants, then held, three fields each.

local function FindPermits(id)
  local name = 'c:' .. id
  if not used_[name] then used_[name] = Load(name) or {-9, 0, 0, -9, 0, 0} end
  return used_[name]
end

local function SharePermits(key, told, processes, leaves, gathers)
  local cap, in_flight, want, last_want, slot, held, carry =
      unpack_doubles('<ddddddd', told)
  Slots.Turn(key, 1, slot_)
  Slots.Turn(key, 4, slot_)
  Slots.Take(key, 1, slot, last_want)
  Slots.Take(key, 4, slot, held)
  if leaves == 1 then return pack('<ddd', 0, 0, 0), false end
  Slots.Put(key, 1, want)
  if gathers then
    local kept = min(held, cap)
    Slots.Put(key, 4, max(kept, in_flight))
    return pack('<ddd', kept, max(kept, in_flight), carry), false
  end
  local all = Slots.Sum(key, 1)
  local free = max(0, cap - Slots.Sum(key, 4))
  local fair = (all > 0 and cap * min(1, want / all) or 0) + carry
  local idle = floor(free / 2 / max(1, processes))
  local count = floor(min(free, max(idle, min(ceil(want), floor(fair)))))
  held = max(count, in_flight)
  carry = want > 0 and max(0, min(1, fair - min(count, floor(fair)))) or 0
  Slots.Put(key, 4, held)
  return pack('<ddd', count, held, carry), cap >= Slots.Sum(key, 4) + 1
end

-- FleetMarks

local kMostMarks = 1024
local kMostName = 256
local kForget = 3600000
-- Of FleetNews.
local kFailed, kServed, kRestored, kRested = 0, 1, 2, 3
-- The fields of a mark. TRIED: 0, if it never may be.
local ID, WHO, WHO2, FAILED, RESTORED, TRIED, RESTS, IS_GUESS, CHANGED =
    1, 2, 3, 4, 5, 6, 7, 8, 9

local marks_  -- an array; what was not looked at is nil

local Mark = {}

function Mark.words(m)
  return (m[WHO] ~= 0 and 1 or 0) + (m[WHO2] ~= 0 and 1 or 0)
end

function Mark.IsOver(m)
  return Mark.words(m) == 0 and m[RESTS] <= now_ and
      now_ - m[CHANGED] > kForget
end

function Mark.Fail(m, span, teller, version)
  local till = span > 0 and now_ + span or 0
  if m[WHO] == teller or m[WHO2] == teller or Mark.words(m) == 2 then
    if till == m[TRIED] then return false end
    m[TRIED] = till
    return true
  end
  m[m[WHO] == 0 and WHO or WHO2] = teller
  m[FAILED], m[TRIED] = version, till
  return true
end

function Mark.Restore(m, version)
  m[WHO], m[WHO2], m[RESTORED] = 0, 0, version
  return true
end

function Mark.Hear(m, kind, span, is_guess, teller, version)
  if kind == kFailed then return Mark.Fail(m, span, teller, version) end
  if kind == kRestored then return Mark.Restore(m, version) end
  if kind == kServed then
    if Mark.words(m) == 2 then return Mark.Restore(m, version) end
    for i = WHO, WHO2 do
      if m[i] == teller then
        m[i] = 0
        return true
      end
    end
    return false
  end
  if now_ + span <= m[RESTS] then return false end
  m[RESTS], m[IS_GUESS] = now_ + span, is_guess
  return true
end

local FleetMarks = {}

-- Returns the version after it.
function FleetMarks.Hear(id, news, teller, version)
  local kind, span, is_guess = unpack_doubles('<ddd', news)
  local kept, mark = {}, nil
  for _, m in ipairs(marks_) do
    if not Mark.IsOver(m) then
      kept[#kept + 1] = m
      if m[ID] == id then mark = m end
    end
  end
  marks_ = kept
  if #id > kMostName then return version end
  if not mark then
    if #kept >= kMostMarks then return version end
    mark = {id, 0, 0, 0, 0, 0, 0, 0, 0}
    kept[#kept + 1] = mark
  end
  if not Mark.Hear(mark, kind, span, is_guess, teller, version + 1) then
    return version
  end
  mark[CHANGED] = now_
  return version + 1
end

function FleetMarks.Tell()
  local told = {pack('<d', #marks_)}
  for _, m in ipairs(marks_) do
    told[#told + 1] = pack('<d', #m[ID])
    told[#told + 1] = m[ID]
    told[#told + 1] =
        pack('<dddddd', Mark.words(m), m[FAILED], m[RESTORED],
             m[TRIED] > 0 and min(max(kTick, m[TRIED] - now_), kYear) or 0,
             min(max(0, m[RESTS] - now_), kYear), m[IS_GUESS])
  end
  return table.concat(told)
end

-- The message, as LedgerArguments writes it. First what it is about, at once.

local ttl = tonumber(ARGV[2])
local asked_slot, alone, leaves, scopes, who, told_version, news, caps
now_, period_, asked_slot, alone, leaves, scopes, who, told_version, news, caps =
    unpack_doubles('<dddddddddd', ARGV[3])
if now_ < 0 then
  local time = redis.call('TIME')
  now_ = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
end

if redis.call('HLEN', key) > kMostFields then redis.call('UNLINK', key) end
local names = {'meta'}
local first_cap = 4 + 2 * news
local first_scope = first_cap + 2 * caps
for i = first_cap, first_scope - 2, 2 do
  names[#names + 1] = 'c:' .. ARGV[i]
end
local at = first_scope
for _ = 1, scopes do
  local scope = ARGV[at]
  names[#names + 1] = 'w:' .. scope
  local facts = unpack_doubles('<d', ARGV[at + 1])
  for i = at + 3, at + 1 + 2 * facts, 2 do
    names[#names + 1] = 'a:' .. scope .. ':' .. ARGV[i]
  end
  at = at + 3 + 2 * facts
end
for first = 1, #names, kChunk do
  local last = min(first + kChunk - 1, #names)
  local values = redis.call('HMGET', key, unpack(names, first, last))
  for i = first, last do fields_[names[i]] = values[i - first + 1] end
end

local meta = Load('meta')
if meta and meta[1] ~= kLayout then
  return redis.error_reply('KRVERSION the hash has another layout')
end
-- Another clock, as a replica may have that took over: the old one's times would
-- not come for long, and nothing flow back meanwhile. As if it had come up empty.
if meta and now_ < meta[5] - kLease then
  redis.call('UNLINK', key)
  fields_, meta = {}, nil
end
local last_ = 0
if meta then
  last_, skipped_, generation_ = meta[5], meta[6], meta[7]
  now_ = max(now_, last_)
else
  skipped_, generation_ = 0, max(1, floor(now_))
  meta = {kLayout, -9, 0, 0, 0, 0, 0, Born()}
end
slot_ = floor(now_ / kLease)
-- These were not there from the first.
gathered_ = meta[9] or 0
local longest, longest_before = meta[10] or 0, meta[11] or 0
if slot_ ~= meta[2] then
  longest, longest_before = 0, slot_ == meta[2] + 1 and longest or 0
end
longest = max(longest, period_)
if alone == 1 and last_ > 0 and
    now_ - last_ > 2 * max(longest, longest_before) then
  skipped_ = skipped_ + now_ - last_ - period_
  Gather(now_)
end
if told_version > 0 and (told_version < Born() or told_version > meta[8]) then
  Gather(generation_)
end
local gathers = now_ < gathered_

-- Handle

local kProcesses = 2
Slots.Turn(meta, kProcesses, slot_)
Slots.Take(meta, kProcesses, asked_slot, 1)
if leaves == 0 then Slots.Put(meta, kProcesses, 1) end
meta[5], meta[6], meta[7], meta[9] = now_, skipped_, generation_, gathered_
meta[10], meta[11] = longest, longest_before
used_['meta'] = meta
local processes = max(1, Slots.Sum(meta, kProcesses))
local has_plenty = false
local known_marks = pack('<d', -1)
if news > 0 or told_version ~= meta[8] then
  fields_['m'] = redis.call('HMGET', key, 'm')[1]
  marks_ = Load('m') or {}
  for i = 4, first_cap - 2, 2 do
    meta[8] = FleetMarks.Hear(ARGV[i], ARGV[i + 1], who, meta[8])
  end
  if news > 0 then used_['m'] = marks_ end
  if told_version ~= meta[8] then known_marks = FleetMarks.Tell() end
end
local reply = {}
for i = first_cap, first_scope - 2, 2 do
  local permits, plenty =
      SharePermits(FindPermits(ARGV[i]), ARGV[i + 1], processes, leaves,
                   gathers)
  reply[#reply + 1] = permits
  has_plenty = has_plenty or plenty
end
at = first_scope
for _ = 1, scopes do
  local scope = ARGV[at]
  local told, told_costs = ARGV[at + 1], ARGV[at + 2]
  local facts, want, want_tokens, last_want, last_want_tokens, slot, carry,
      part = unpack_doubles('<dddddddd', told)
  local wants = FindWants(scope)
  Slots.Turn(wants, 1, slot_)
  Slots.Turn(wants, 4, slot_)
  Slots.Take(wants, 1, slot, last_want)
  Slots.Take(wants, 4, slot, last_want_tokens)
  if leaves == 0 then
    Slots.Put(wants, 1, want)
    Slots.Put(wants, 4, want_tokens)
  end
  local accounts, answers, grants = {}, {}, {}
  for k = 1, facts do
    accounts[k] = Find(scope, ARGV[at + 1 + 2 * k])
    answers[k] = Hear(accounts[k], ARGV[at + 2 + 2 * k], gathers)
  end
  if leaves == 0 and not gathers then
    local costs, plenty = {}, false
    for i = 1, #told_costs / 8 do
      costs[i] = unpack_doubles('<d', told_costs, 8 * i - 7)
    end
    carry, plenty, grants = Share(
        want, want_tokens, Slots.Sum(wants, 1) * part,
        Slots.Sum(wants, 4) * part, carry, costs, processes * part, accounts)
    has_plenty = has_plenty or plenty
  else
    carry = 0
    for k = 1, facts do grants[k] = kNoGrants end
  end
  reply[#reply + 1] = pack('<d', carry)
  for k = 1, facts do
    reply[#reply + 1] = answers[k]
    reply[#reply + 1] = grants[k]
  end
  at = at + 3 + 2 * facts
end

local store = {}
for name, x in pairs(used_) do
  store[#store + 1] = name
  store[#store + 1] = cmsgpack.pack(x)
end
for first = 1, #store, kChunk do
  redis.call('HSET', key,
             unpack(store, first, min(first + kChunk - 1, #store)))
end
redis.call('EXPIRE', key, ttl)
return pack('<dddddd', slot_, processes, has_plenty and 1 or 0,
            meta[8], Born(), gathers and 1 or 0) ..
    known_marks .. table.concat(reply)
)lua";

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_REDIS_LEDGER_SCRIPT_H_
