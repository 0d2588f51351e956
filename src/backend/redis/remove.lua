-- Deletes whatever is there.
-- KEYS: key. ARGV: channel or '', message.
-- Returns how many values were deleted.
local removed = redis.call('DEL', KEYS[1])
if removed == 1 and ARGV[1] ~= '' then
  redis.pcall('PUBLISH', ARGV[1], ARGV[2])
end
return removed
