-- Policy of the LLM gateway: who asks (API key), what may be asked (endpoint and method) and what a body may say.
-- Everything it refuses goes through nginx's error_page to explain(). No message here or in a log ever holds text of a body.
local ffi = require "ffi"
local cjson = require("cjson").new()
cjson.decode_invalid_numbers(false)

ffi.cdef "unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);"

local ngx, find, byte, sub = ngx, string.find, string.byte, string.sub
local M, settings = {}, {}

local INFER = {}
for path in ([[
  /api/generate /api/chat /api/embed /api/embeddings
  /v1/chat/completions /v1/completions /v1/embeddings /v1/responses /v1/messages
]]):gmatch("%S+") do INFER[path] = true end
local LIST = { ["/api/tags"] = true, ["/api/version"] = true, ["/v1/models"] = true }
local MODEL_NAME = "^%w[%w._:/@-]*$"

function M.setup(given)
  settings = given
  settings.refused = {}
  for _, name in ipairs(given.refused_options) do settings.refused[name] = true end
end

local function refuse(status, code, message)
  ngx.var.llm_refusal = code
  ngx.var.llm_message = message
  return ngx.exit(status == 400 and 460 or status)  -- see error_page in nginx.conf
end

local HEX, digest = {}, ffi.new("unsigned char[32]")
for i = 0, 255 do HEX[i] = string.format("%02x", i) end

local function sha256(text)
  ffi.C.SHA256(text, #text, digest)
  local hex = {}
  for i = 0, 31 do hex[i + 1] = HEX[digest[i]] end
  return table.concat(hex)
end

-- A name without a tag means the tag latest, in Ollama as in the lists of the inventory.
local function with_tag(model)
  return find(model, ":[^/]*$") and model or model .. ":latest"
end

local function model_allowed(model)
  local list = ngx.var.llm_key_models
  return list == "" or find(" " .. list .. " ", " " .. with_tag(model) .. " ", 1, true) ~= nil
end

-- Rewrite phase, before limits are counted and before a body is read.
function M.enter()
  local var = ngx.var
  local key = (var.http_authorization or ""):match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(%S+) *$") or var.http_x_api_key
  if not key or key == "" then
    return refuse(401, "key_missing", "Send an API key: 'Authorization: Bearer <key>' or 'x-api-key: <key>'.")
  end
  var.llm_key_hash = sha256(key)
  if var.llm_key_id == "" then
    return refuse(401, "key_unknown", "This API key is not known here.")
  end
  local last_second = tonumber(var.llm_key_not_after)
  if last_second and ngx.time() > last_second then
    return refuse(401, "key_expired", "This API key has expired.")
  end

  local path, method = var.uri, ngx.req.get_method()
  local model = path:match("^/v1/models/(.+)$")
  if model and (#model > 255 or not find(model, MODEL_NAME)) then model = nil end
  if INFER[path] then
    if method ~= "POST" then
      ngx.header["Allow"] = "POST"
      return refuse(405, "method", "This endpoint takes POST only.")
    end
  elseif LIST[path] or model then
    if method ~= "GET" and method ~= "HEAD" then
      ngx.header["Allow"] = "GET, HEAD"
      return refuse(405, "method", "This endpoint takes GET only.")
    end
    if model and not model_allowed(model) then
      return refuse(403, "model_not_allowed", "This API key may not use this model.")
    end
  else
    return refuse(404, "endpoint", "There is no such endpoint here.")
  end
  var.llm_path = path  -- one of the names above, never what the client wrote
  if model then var.llm_model = with_tag(model) end
end

-- Names of the outermost object in a text that is known to be JSON. Ollama reads names without regard to case, merges an object that is
-- given twice and lets the last of two values win; so a name that could be read in two ways would pass a check that looks at only one.
local function ambiguous_name(body)
  local seen, depth, at = {}, 0, find(body, "{", 1, true)
  while at do
    local char = byte(body, at)
    if char == 34 then  -- a string: find its end, a quote with an even number of backslashes before it
      local stop = at
      repeat
        stop = find(body, '"', stop + 1, true)
        local slash = stop - 1
        while byte(body, slash) == 92 do slash = slash - 1 end
      until (stop - slash) % 2 == 1
      if depth == 1 and find(body, "^[ \t\r\n]*:", stop + 1) then
        local name = sub(body, at + 1, stop - 1)
        if not find(name, "^[%w_.$-]+$") then return "a name with characters other than letters, digits, and _.$-" end
        local lower = name:lower()
        if seen[lower] then return "the name '" .. lower:sub(1, 40) .. "' twice" end
        if lower ~= name and (lower == "model" or lower == "options" or lower == "keep_alive") then
          return "the name '" .. lower .. "' in capitals"
        end
        seen[lower] = true
      end
      at = stop
    elseif char == 123 or char == 91 then
      depth = depth + 1
    else
      depth = depth - 1
    end
    at = find(body, '["{}%[%]]', at + 1)
  end
end

-- Access phase, after the limits.
function M.check_body()
  local var = ngx.var
  if not INFER[var.llm_path] then return end
  if var.http_content_encoding then
    return refuse(415, "content_encoding", "Send the body without Content-Encoding.")
  end
  -- Over HTTP/2 the Lua module cannot read a body of unknown length.
  if ngx.req.http_version() >= 2 and not var.http_content_length then
    return refuse(411, "length_required", "Send Content-Length, or use HTTP/1.1.")
  end
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  if not body then
    if ngx.req.get_body_file() then return refuse(500, "body_in_file", "The gateway is set up wrongly: a body left memory.") end
    return refuse(400, "body_empty", "The body is empty; send a JSON object.")
  end
  local parsed, request = pcall(cjson.decode, body)
  if not parsed or type(request) ~= "table" or not find(body, "^[ \t\r\n]*{") then
    return refuse(400, "not_json", "The body is not a JSON object.")
  end
  local ambiguous = ambiguous_name(body)
  if ambiguous then return refuse(400, "ambiguous", "The body holds " .. ambiguous .. ".") end

  local model = request.model
  if type(model) ~= "string" or #model > 255 or not find(model, MODEL_NAME) then
    return refuse(400, "model_name", "The body must name a 'model', such as \"llama3.2:3b\".")
  end
  var.llm_model = with_tag(model)
  if not model_allowed(model) then
    return refuse(403, "model_not_allowed", "This API key may not use this model.")
  end
  if request.keep_alive ~= nil and not settings.client_keep_alive then
    return refuse(400, "keep_alive", "Leave out 'keep_alive'; the operator decides how long models stay loaded.")
  end
  local options = request.options
  if type(options) == "table" then
    for name in pairs(options) do
      if settings.refused[name] then
        return refuse(400, "option_refused", "Leave out 'options." .. name .. "'; the operator decides how models are loaded.")
      end
    end
    local context = options.num_ctx
    if settings.max_context > 0 and context ~= nil and not (tonumber(context) and tonumber(context) <= settings.max_context) then
      return refuse(400, "context_too_large", "'options.num_ctx' may be at most " .. settings.max_context .. ".")
    end
  end
end

local TYPES = {
  [401] = "authentication_error", [403] = "permission_error", [404] = "not_found_error",
  [413] = "request_too_large", [429] = "rate_limit_error",
}
local MESSAGES = {
  [404] = "There is no such endpoint here.",
  [429] = "Too many requests for this API key; wait as Retry-After says.",
  [502] = "No model server answered; try again as Retry-After says.",
  [503] = "No model server is free; try again as Retry-After says.",
  [504] = "The model server took too long; try again as Retry-After says.",
}

-- The one place that words a refusal, in the shape that the clients of each interface expect.
function M.explain()
  local var, status = ngx.var, ngx.status
  local code, message = var.llm_refusal, var.llm_message
  if code == "" then
    code = "http_" .. status
    message = MESSAGES[status] or "The gateway failed."
    if status == 413 then
      code, message = "body_too_large", "The body is larger than " .. settings.max_body_mib .. " MiB."
    elseif status == 429 then
      code = var.limit_conn_status == "REJECTED" and "too_many_at_once" or "too_many_requests"
    end
    var.llm_refusal = code
  end
  if status == 401 then ngx.header["WWW-Authenticate"] = "Bearer" end
  ngx.header["Content-Type"] = "application/json"
  local kind = TYPES[status] or (status < 500 and "invalid_request_error" or "api_error")
  local answer
  if find(var.uri, "^/api/") then
    answer = { error = message }
  elseif var.uri == "/v1/messages" then
    answer = { type = "error", error = { type = kind, message = message }, request_id = var.request_id }
  else
    answer = { error = { message = message, type = kind, code = code, param = cjson.null } }
  end
  ngx.say(cjson.encode(answer))
end

function M.health()
  if ngx.var.llm_health_allowed ~= "1" then return refuse(404, "endpoint", "There is no such endpoint here.") end
  ngx.header["Content-Type"] = "text/plain"
  ngx.say("ok")
end

return M
