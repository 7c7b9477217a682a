"""What the Redis store runs inside the server: each script is one step that nothing comes between.

Keys, in this order: `meta` (a hash: who may write, and the layout's version), `lease` (there while
that balancer gives signs of life), `documents` and `heads` (hashes by revision), `base`, `kept`
(a hash by name).

Whoever takes the lease gets a token, a number that grows and a random part. `meta` remembers the
last one given out, and every write names its own: one that is not the last is told who has it now,
and has written nothing.
"""

from __future__ import annotations

from typing import Final

# identity, random part, who, lease in ms, the layout's version
TAKE: Final = """
local meta = redis.call('HMGET', KEYS[1], 'schema', 'identity', 'who')
if meta[1] and tonumber(meta[1]) > tonumber(ARGV[5]) then return {'newer', meta[1]} end
local left = redis.call('PTTL', KEYS[2])
if left > 0 and meta[2] ~= ARGV[1] then return {'held', meta[3] or 'unknown', tostring(left)} end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
local token = string.format('%d:%s', fence, ARGV[2])
redis.call('HSET', KEYS[1],
    'schema', ARGV[5], 'token', token, 'identity', ARGV[1], 'who', ARGV[3])
redis.call('SET', KEYS[2], token, 'PX', ARGV[4])
return {'taken', token}
"""

# token, its number, identity, who, lease in ms, the layout's version
RENEW: Final = """
local meta = redis.call('HMGET', KEYS[1], 'token', 'fence', 'who')
local state = 'kept'
if meta[1] ~= ARGV[1] then
    -- A server that came back without what it knew, or with what it knew before this one's time.
    local older = not meta[1] or tonumber(meta[2]) < tonumber(ARGV[2])
    if not older or redis.call('EXISTS', KEYS[2]) == 1 then
        return {'lost', meta[3] or 'unknown'}
    end
    redis.call('HSET', KEYS[1], 'schema', ARGV[6], 'fence', ARGV[2], 'token', ARGV[1],
        'identity', ARGV[3], 'who', ARGV[4])
    state = 'forgot'
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[5])
return {state}
"""

# token, how many revisions to keep, revision or '', head, document, base or '', name or '' and
# document of what is kept beside the revisions
SAVE: Final = """
local meta = redis.call('HMGET', KEYS[1], 'token', 'who')
if meta[1] ~= ARGV[1] then return {'lost', meta[2] or 'unknown'} end
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[3], ARGV[3], ARGV[5])
    redis.call('HSET', KEYS[4], ARGV[3], ARGV[4])
    local kept = redis.call('HKEYS', KEYS[4])
    table.sort(kept, function(a, b) return tonumber(a) < tonumber(b) end)
    for index = 1, #kept - tonumber(ARGV[2]) do
        redis.call('HDEL', KEYS[3], kept[index])
        redis.call('HDEL', KEYS[4], kept[index])
    end
end
if ARGV[6] ~= '' then redis.call('SET', KEYS[5], ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[6], ARGV[7], ARGV[8]) end
return {'kept'}
"""

# token, the newest revision or '', its head, its document, base or '', then name and document of each
# that is kept beside the revisions
RESTORE: Final = """
local meta = redis.call('HMGET', KEYS[1], 'token', 'who')
if meta[1] ~= ARGV[1] then return {'lost', meta[2] or 'unknown'} end
local newest = tonumber(ARGV[2]) or 0
for _, revision in ipairs(redis.call('HKEYS', KEYS[4])) do
    if tonumber(revision) > newest then
        redis.call('HDEL', KEYS[3], revision)
        redis.call('HDEL', KEYS[4], revision)
    end
end
if newest > 0 then
    redis.call('HSET', KEYS[3], ARGV[2], ARGV[4])
    redis.call('HSET', KEYS[4], ARGV[2], ARGV[3])
end
if ARGV[5] ~= '' then redis.call('SET', KEYS[5], ARGV[5]) else redis.call('DEL', KEYS[5]) end
redis.call('DEL', KEYS[6])
for index = 6, #ARGV, 2 do redis.call('HSET', KEYS[6], ARGV[index], ARGV[index + 1]) end
return {'kept'}
"""

# token
RELEASE: Final = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return {'kept'}
"""
