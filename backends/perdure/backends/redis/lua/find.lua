-- ARGV: caller, function, name
local id = call('HGET', P .. 'name', name_field(ARGV[2], ARGV[3]))
return id and answer(load(id)) or false
