function _mcastctl_completion
    set -l head (string match -r -- '^--[^=]+=' (commandline -ct))
    set -l line (commandline -cp | string collect)
    for found in (env _MCASTCTL_COMPLETE=fish_complete COMP_WORDS=$line mcastctl 2>/dev/null)
        set -l parts (string split -m 1 , -- $found)
        switch $parts[1]
            case plain
                echo -- $parts[2]
            case file
                for path in (__fish_complete_path $parts[2])
                    echo -- "$head"$path
                end
            case dir
                for path in (__fish_complete_directories $parts[2])
                    echo -- "$head"$path
                end
        end
    end
end

complete --no-files --command mcastctl --arguments "(_mcastctl_completion)"
