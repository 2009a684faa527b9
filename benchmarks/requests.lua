-- Makes the requests of one run of wrk: `wrk … -s requests.lua URL -- KIND PEOPLE RUN PASSWORD`.
-- PEOPLE is a file with one login session a line: access token, refresh token, user id, address.
-- RUN makes idempotency keys unique. The last line printed is the result, as JSON.

local people, ready, turn = {}, {}, 0
local run, password, client
-- With more clients than it has time for, the service refuses some at once. They don't count, neither
-- as requests nor as failures, though their time is among p50 and p99.
refused = 0

local function post(path, body, headers)
  headers["Content-Type"] = "application/json"
  return wrk.format("POST", path, headers, body)
end

local function bearer(person)
  return { Authorization = "Bearer " .. person.access }
end

-- All people in turn, each request written once: the server sees thousands of different tokens.
local function get(path)
  for i, person in ipairs(people) do
    ready[i] = wrk.format("GET", path, bearer(person))
  end
  return function()
    turn = turn % #ready + 1
    return ready[turn]
  end
end

-- Each order that was answered is paid by whoever placed it, before the next one is placed.
local function buy(product)
  local placed, buyers = {}, {}
  for i, person in ipairs(people) do buyers[person.id] = person end
  function response(status, headers, body)
    if status == 503 and body:find("OVERLOADED", 1, true) then refused = refused + 1 end
    local id, user = body:match('"id":"([^"]+)","user_id":"([^"]+)","status":"placed"')
    if id then table.insert(placed, { id = id, buyer = buyers[user] }) end
  end
  return function()
    turn = turn + 1
    local order = table.remove(placed)
    local i = math.random(#people)
    local headers = bearer(order and order.buyer or people[i])
    headers["Idempotency-Key"] = run .. "-" .. turn
    if order then
      return post("/api/v1/orders/" .. order.id .. "/pay", "{}", headers)
    end
    local body = '{"items": [{"sku": "product-%d", "quantity": 1}]}'
    return post("/api/v1/orders", body:format(product(i)), headers)
  end
end

local kinds = {
  health = function()
    return function() return wrk.format("GET", "/health") end
  end,

  me = function() return get("/api/v1/users/me") end,

  list = function() return get("/api/v1/users?per_page=20") end,

  transfer = function()
    return function()
      turn = turn + 1
      local from = math.random(#people)
      local to = (from + math.random(#people - 1) - 1) % #people + 1
      local headers = bearer(people[from])
      headers["Idempotency-Key"] = run .. "-" .. turn
      local body = '{"to_user_id": "%s", "amount": 1, "memo": "benchmark"}'
      return post("/api/v1/credits/transfers", body:format(people[to].id), headers)
    end
  end,

  -- Everybody orders the same product, or each their own, and then pays.
  ["one product"] = function() return buy(function(i) return 1 end) end,
  ["own products"] = function() return buy(function(i) return i end) end,

  login = function()
    return function()
      local body = '{"email": "%s", "password": "%s"}'
      return post("/api/v1/auth/login", body:format(people[math.random(#people)].email, password), {})
    end
  end,

  -- A refresh token is good once: each answer brings the one for a later request.
  refresh = function()
    function response(status, headers, body)
      table.insert(people, { refresh = body:match('"refresh_token":"([^"]+)"') })
    end
    return function()
      local body = '{"refresh_token": "%s"}'
      return post("/api/v1/auth/refresh", body:format(table.remove(people, 1).refresh), {})
    end
  end,
}

function setup(thread)
  client = thread
end

function init(args)
  run, password = args[3], args[4]
  for line in io.lines(args[2]) do
    local access, refresh, id, email = line:match("(%S+)\t(%S+)\t(%S+)\t(%S+)")
    table.insert(people, { access = access, refresh = refresh, id = id, email = email })
  end
  math.randomseed(os.time())
  request = kinds[args[1]]()
end

function done(summary, latency)
  local errors, refused = summary.errors, client:get("refused")
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "failed": %d, "p50": %d, "p99": %d}\n',
    summary.requests - refused, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout - refused,
    latency:percentile(50), latency:percentile(99)))
end
