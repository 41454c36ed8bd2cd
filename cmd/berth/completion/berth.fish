# Completion of berth for fish; in ~/.config/fish/config.fish:  berth completion fish | source

function __berth_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l word (commandline -ct)
    set -l directive :none
    for line in ($program __complete $words "$word" 2>/dev/null)
        switch $line
            case ':*'
                set directive $line
            case '*'
                echo $line
        end
    end
    switch $directive
        case :files
            __fish_complete_path (string replace -r '^--[^=]*=' '' -- "$word")
        case :directories
            __fish_complete_directories (string replace -r '^--[^=]*=' '' -- "$word")
    end
end
complete -c berth -f -a '(__berth_complete)'
